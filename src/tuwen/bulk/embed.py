"""Bulk embedding jobs: plan the shards, embed those that are not done, write each once, report.

An `Engine` computes shards, here (`embedding.py`) or on a cluster (`ray.py`); `packing.py` lays them out as files and
`job.py` keeps track of them, so that a killed job resumes where it was.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tuwen.bulk.embedding import Embedded, Shard, Wanted
from tuwen.bulk.job import Job, Outcome, begun, check_free
from tuwen.bulk.packing import LAYOUTS, Layout, pack
from tuwen.bulk.rows import Names, rows_of
from tuwen.data.datasets import list_samples
from tuwen.data.samples import Columns
from tuwen.errors import InvalidInput
from tuwen.index.location import Place
from tuwen.index.manifest import Manifest

if TYPE_CHECKING:
    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

INDEX = "index"
FORMATS = (*LAYOUTS, INDEX)
SHARD_SIZE = 10_000
_UPSERT = 4_096
"""rows written to an index at a time"""


class Engine(Protocol):
    """Computes shards, on this machine or on others."""

    def __call__(self, shards: Iterable[Shard], wanted: Wanted) -> Iterator[int | Embedded]:
        """Yield each shard when it is complete, in any order, and in between the number of samples processed."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What to embed, and how to write it.

    Attributes:
        sources: folders and files of samples.
        out: the folder to write to; for the format `index`, the folder of the job's state, see `kept_in`.
        layout: one of `FORMATS`.
        only: `images` or `texts`; None for whatever the samples have.
        dtype: of vectors in files, `float16` or `float32`.
        shard_size: samples per shard.
        columns: the names of columns in tables.
        facts: what else the vectors depend on: runtime, precision, decoding.
    """

    sources: Sequence[Path]
    out: Path
    layout: str
    only: str | None
    dtype: str
    shard_size: int
    columns: Columns
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progressed:
    """The progress of a job.

    Attributes:
        seen: samples processed, including those of earlier runs.
        written: samples in shards that have been written.
        total: all samples.
        report: the counts and the rejected samples, once the job is done.
    """

    seen: int
    written: int
    total: int
    report: Mapping[str, Any] | None = None


def embed_all(
    request: Request, encoder: "Encoder", engine: Engine, index: "VectorIndex | None" = None
) -> Generator[Progressed]:
    """Run a job, or resume it.

    Args:
        request: what to embed, and how to write it.
        encoder: the model.
        engine: what computes the shards.
        index: opened for writing, for the format `index`.

    Yields:
        The progress after each batch and each shard; the last one has the report.

    Raises:
        InvalidInput: a source cannot be used, or the output folder holds something else.
        TuwenError: from the engine or the index.
    """
    if index is None:
        check_free(request.out)
    samples = list_samples(request.sources, request.columns)
    with begun(request.out, _facts(request, encoder), samples, request.shard_size, adds=index is not None) as job:
        wanted, layout = _wanted(request, job), _layout(request, job)
        done = job.done()
        written = seen = sum(_size(job, number) for number in done)
        total = job.facts["samples"]
        yield Progressed(seen, written, total)
        shards = (Shard(number, job.listed(number)) for number in range(job.shards) if number not in done)
        for event in engine(shards, wanted):
            if isinstance(event, Embedded):
                _write(event, job, layout, index, request.sources)
                written += _size(job, event.number)
            else:
                seen += event
            yield Progressed(seen, written, total)
        if index is not None:
            index.optimize()
        yield Progressed(total, total, total, job.finish())


def kept_in(place: Place, manifest: Manifest, cache: Path) -> Path:
    """The folder for the state of a job that writes to an index: the index's own, or one in the cache for a cluster.

    A collection that is deleted and created again gets a new one.
    """
    if isinstance(place, Path):
        return place
    made = hashlib.sha256(f"{place} {manifest.created}".encode()).hexdigest()[:8]
    return cache / "embedding" / f"{place.name}-{made}"


def _facts(request: Request, encoder: "Encoder") -> dict[str, Any]:
    return {
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "precision": encoder.precision,
        **request.facts,
        "layout": request.layout,
        "dtype": request.dtype,
        "only": request.only,
    }


def _wanted(request: Request, job: Job) -> Wanted:
    """Which of images and texts are embedded: those that the samples have, unless the request names one."""
    there = {"images": bool(job.facts["pictured"]), "texts": bool(job.facts["captioned"])}
    if request.only is not None and not there[request.only]:
        message = f"--only {request.only}: none of the {job.facts['samples']} samples has any"
        raise InvalidInput(message, value=request.only, where="--only")
    images, texts = (there[side] and request.only in (None, side) for side in ("images", "texts"))
    return Wanted(images, texts, paired=images and texts and request.layout == "clip-retrieval")


def _layout(request: Request, job: Job) -> Layout | None:
    if request.layout == INDEX:
        return None
    wanted = _wanted(request, job)
    model = {name: str(job.facts[name]) for name in ("model", "fingerprint", "precision")}
    return Layout(request.layout, request.dtype, job.shards, wanted.images, wanted.texts, model)


def _write(
    embedded: Embedded, job: Job, layout: Layout | None, index: "VectorIndex | None", sources: Sequence[Path]
) -> None:
    """Write a shard, then record that it is written; after a kill between the two, the same is written again."""
    files: dict[str, bytes] = {}
    if layout is not None:
        files = pack(embedded, layout)
    elif index is not None:
        rows = rows_of(embedded, Names.of(sources, index.root))
        for start in range(0, len(rows), _UPSERT):
            index.upsert(rows[start : start + _UPSERT])
    outcome = Outcome(
        samples=_size(job, embedded.number),
        embedded=len(embedded.items),
        images=sum(item.image is not None for item in embedded.items),
        texts=sum(len(item.sample.captions) for item in embedded.items if item.text is not None),
        truncated=embedded.truncated,
        skipped=embedded.skipped,
        rejected=tuple(embedded.rejected),
    )
    job.commit(embedded.number, files, outcome)


def _size(job: Job, number: int) -> int:
    """The number of samples in a shard: the same for all but the last."""
    size = int(job.facts["shard_size"])
    return min(size, int(job.facts["samples"]) - number * size)
