"""Bulk embedding: plan the shards, embed those that are not done, write each once, report.

An `Engine` computes shards, here (`embedding.py`) or on a cluster (`ray.py`); `packing.py` lays them out as files and
`job.py` keeps track of them, so that a killed job resumes where it was.
"""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tuwen.bulk.embedding import Embedded, Engine, Shard, Wanted
from tuwen.bulk.embedding import embed as embed_shards
from tuwen.bulk.job import EmbedReport, Job, Outcome, begun, check_free
from tuwen.bulk.packing import LAYOUTS, Layout, pack
from tuwen.bulk.ray import on_cluster
from tuwen.bulk.recipe import Recipe
from tuwen.bulk.rows import Names, rows_of
from tuwen.bundle.manifest import Tower
from tuwen.data.datasets import expanded, list_samples, root_of
from tuwen.data.samples import Columns
from tuwen.errors import BundleNotFound, IndexNotFound, InvalidInput
from tuwen.index.index import VectorIndex, make, manifest_of
from tuwen.index.location import Cluster, Location, resolve_location
from tuwen.index.manifest import Manifest
from tuwen.progress import Progress
from tuwen.runtime.loading import default_model, find_bundle
from tuwen.runtime.selection import Choice
from tuwen.settings import Settings, read_settings

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder

CLIP_RETRIEVAL, INDEX = "clip-retrieval", "index"
FORMATS = (*LAYOUTS, INDEX)
SHARD_SIZE = 10_000
_UPSERT = 4_096
"""rows written to an index at a time"""


def embed(  # noqa: PLR0913  (what is embedded, how it is computed, and how it is written)
    sources: str | Path | Sequence[str | Path],
    out: str | Location,
    model: str | None = None,
    *,
    layout: str = CLIP_RETRIEVAL,
    only: str | None = None,
    dtype: str | None = None,
    shard_size: int = SHARD_SIZE,
    columns: Columns | None = None,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    exact_decode: bool = False,
    cluster: str | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> EmbedReport:
    """Embed whole collections: the vectors of all images and captions, as files or as rows of an index.

    Samples are divided into shards; each is written once. Interrupted, call it again to go on: the files are the same,
    byte for byte. For vectors in memory see `Encoder.encode_images`, `encode_texts` and `stream`.

    >>> import numpy as np
    >>> report = tuwen.embed("photos/", "embedded/", model="demo")
    >>> vectors = np.load("embedded/img_emb/img_emb_0.npy")
    >>> vectors.shape == (report.images, report.dim), vectors.dtype
    (True, dtype('float16'))

    Args:
        sources: folders and files of samples (`.tar`, `.parquet`, `.csv`, `.tsv`, `.jsonl`, `.txt`); braces name
            several: `{00000..00999}.tar`.
        out: the folder to write to; for the layout `index`, an index's folder or URL, created if it does not exist.
        model: a model's name or folder; None: that of an index that exists, or `TUWEN_DEFAULT_MODEL`.
        layout: `clip-retrieval`, `parquet`, `arrow`, `npy` or `index`.
        only: `images` or `texts`, to embed just one of the two; None: what the samples have.
        dtype: of the vectors in files, `float16` (default for `clip-retrieval`) or `float32`.
        shard_size: samples per shard.
        columns: the names of columns in tables, where they are not the usual ones.
        runtime: see `load`, here and for `device`, `precision`, `threads`, `exact_decode`. What is fastest is measured
            first if that is not known yet.
        device: e.g. `cpu`, `cuda:1`.
        precision: e.g. `fp32`.
        threads: for computing, on a cluster per worker.
        exact_decode: decode JPEGs at full scale.
        cluster: compute on a Ray cluster: `auto`, `local`, `ray://host:10001` or `host:6379`; see `tuwen embed`.
        workers: processes on the cluster; None: as many as it has cores for.
        progress: show a progress bar; None: on a terminal.

    Returns:
        The counts. Samples that could not be embedded are in `rejected`, with the reason.

    Raises:
        InvalidInput: a source cannot be used, an option has no such value, or `out` holds something else, or a job
            with another model, layout or input.
        BundleNotFound: the model is not on this machine.
        WrongModel: the index holds vectors of another model.
        TuwenError: another process writes to `out`, or the cluster cannot be reached.
    """
    settings = read_settings()
    options = Options(layout, only, dtype, shard_size, columns or Columns(), exact_decode, cluster, workers)
    choice = Choice.with_settings(settings, runtime, device, precision, threads)
    paths = [sources] if isinstance(sources, str | Path) else sources
    job = EmbedJob.of(paths, out, model, choice, options, settings)
    for step in job.run("none" if progress is False else "auto"):
        report = step.report
    assert report is not None, "a job ends with its report"
    return report


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `embed` that do not say which model computes; InvalidInput for a value that does not exist."""

    layout: str = CLIP_RETRIEVAL
    only: str | None = None
    dtype: str | None = None
    shard_size: int = SHARD_SIZE
    columns: Columns = field(default_factory=Columns)
    exact_decode: bool = False
    cluster: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("layout", self.layout, FORMATS),
            ("only", self.only, (None, "images", "texts")),
            ("dtype", self.dtype, (None, "float16", "float32")),
        ):
            if value not in known:
                hint = f"choose one of {', '.join(filter(None, known))}"
                raise InvalidInput(f"unknown {name} {value!r}: {hint}", value=value, where=name, hint=hint)
        for name, number in (("shard_size", self.shard_size), ("workers", self.workers)):
            if number is not None and number < 1:
                raise InvalidInput(f"{name} is {number}: it must be at least 1", value=number, where=name)
        if self.cluster is None and self.workers is not None:
            hint = "name a cluster, or leave out the workers"
            raise InvalidInput(
                f"workers are processes on a cluster: {hint}", value=self.workers, where="workers", hint=hint
            )

    @property
    def tower(self) -> Tower:
        """The tower that does most of the work."""
        return "text" if self.only == "texts" else "vision"


@dataclass(frozen=True, slots=True)
class Request:
    """What to embed, and how to write it.

    Attributes:
        sources: folders and files of samples.
        out: the folder to write to; for the layout `index`, the folder of the job's state, see `kept_in`.
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
    facts: dict[str, Any]


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
    report: EmbedReport | None = None


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """A bulk job with its model loaded, ready to run.

    Attributes:
        request: what to embed, and how to write it.
        recipe: how the model is loaded.
        encoder: the model.
        settings: all of them.
        index: where rows go; None for files.
        cluster: the address of a Ray cluster; None: computed here.
        workers: see `embed`.
    """

    request: Request
    recipe: Recipe
    encoder: "Encoder"
    settings: Settings
    index: Location | None
    cluster: str | None
    workers: int | None

    @classmethod
    def of(
        cls,
        sources: Sequence[str | Path],
        out: str | Location,
        model: str | None,
        choice: Choice,
        options: Options,
        settings: Settings,
    ) -> Self:
        """Load the model, and create the index if rows go to one that does not exist; errors as of `embed`."""
        place = resolve_location(out, settings)
        if isinstance(place, Cluster) and options.layout != INDEX:
            hint = "add --format index"
            raise InvalidInput(f"{place} is an index: {hint}", value=str(place), where="layout", hint=hint)
        paths = [path for source in sources for path in expanded(Path(source))]
        index = place if options.layout == INDEX else None
        manifest = None if index is None else _manifest_if_any(index)
        if model is None:
            model = (
                default_model(settings.default_model, settings.models)
                if manifest is None
                else _own_model(manifest, settings)
            )
        recipe = Recipe.of(model, choice, options.tower, settings, exact_decode=options.exact_decode)
        encoder = recipe.load()
        if index is not None and manifest is None:
            make(index, encoder, root_of(paths), bundle=recipe.model)
            manifest = manifest_of(index)
        folder = Path(str(place)) if index is None or manifest is None else kept_in(index, manifest, settings.cache)
        request = Request(
            paths,
            folder,
            options.layout,
            options.only,
            options.dtype or ("float16" if options.layout == CLIP_RETRIEVAL else "float32"),
            options.shard_size,
            options.columns,
            recipe.facts,
        )
        return cls(request, recipe, encoder, settings, index, options.cluster, options.workers)

    @property
    def out(self) -> Location:
        """The folder that is written to, or the index."""
        return self.request.out if self.index is None else self.index

    def run(self, progress: str) -> Generator[Progressed]:
        """Run the job, or resume it; see `embed_all`. `progress`: one of `progress.KINDS`."""
        with (
            Progress(progress) as bar,
            self._opened() as rows,
            self._engine() as engine,
            closing(embed_all(self.request, self.encoder, engine, rows)) as steps,
        ):
            for number, step in enumerate(steps):
                if number == 0:
                    bar.begin(step.total)
                bar.show(step.seen, step.written)
                yield step

    @contextmanager
    def _opened(self) -> Iterator[VectorIndex | None]:
        """The index that rows go to; None for files."""
        if self.index is None:
            yield None
            return
        with VectorIndex.open(
            self.index,
            encoder=self.encoder,
            lock_timeout=self.settings.lock_timeout,
            quantize_above=self.settings.quantize_above,
        ) as index:
            yield index

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        if self.cluster is None:
            yield partial(embed_shards, encoder=self.encoder)
            return
        with on_cluster(self.cluster, self.recipe, self.workers) as engine:
            yield engine


def _manifest_if_any(index: Location) -> Manifest | None:
    try:
        return manifest_of(index)
    except IndexNotFound:
        return None


def _own_model(manifest: Manifest, settings: Settings) -> str:
    """The model that an index was made with: where it was then, or by its name."""
    for model in filter(None, (manifest.bundle, manifest.model)):
        with suppress(BundleNotFound):
            find_bundle(model, settings.models, settings.cache)
            return model
    return manifest.model


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


def kept_in(place: Location, manifest: Manifest, cache: Path) -> Path:
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
