"""Embeds samples shard by shard: reading, decoding and encoding run at the same time, and in order.

    listed --read, decode (threads)--> pixels, captions --encode (a thread)--> vectors --> one Embedded per shard

Batches depend on the shard alone, never on timing: on the same machine, the same shard gives bit-identical vectors.
While one shard is encoded, the next is read.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tuwen.data.parquet import read_rows
from tuwen.data.samples import Listed, Sample, read_sample
from tuwen.data.sidecars import Sidecars
from tuwen.ingest.images import completed
from tuwen.ingest.payloads import image_payload
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import BATCH, run
from tuwen.types import Payload, Pixels, Rejected, Source, Vectors

TEXTS = 256
"""captions per batch: enough that many have a similar length"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to embed of each sample. `paired`: a sample that lacks one of the two is rejected."""

    images: bool
    texts: bool
    paired: bool = False


@dataclass(frozen=True, slots=True)
class Shard:
    """Samples that are embedded and written together."""

    number: int
    listed: Iterable[Listed]


@dataclass(frozen=True, slots=True)
class Item:
    """An embedded sample.

    Attributes:
        sample: the sample, without the image's content.
        picture: the facts that an index stores of the image; None if no image was embedded.
        image: the row of its image in the shard's image vectors; None if no image was embedded.
        text: the row of its first caption in the shard's text vectors; None if no caption was embedded.
    """

    sample: Sample
    picture: Payload | None
    image: int | None
    text: int | None


@dataclass(slots=True)
class Embedded:
    """A shard with its vectors.

    Attributes:
        number: the shard's number.
        items: the embedded samples, in order.
        rejected: samples that cannot be embedded, with the reasons.
        skipped: samples that have neither of what is to be embedded.
        truncated: captions longer than the model's context length.
        images: (images, dim) float32.
        texts: (captions, dim) float32.
    """

    number: int
    items: list[Item]
    rejected: list[Rejected]
    skipped: int
    truncated: int
    images: Vectors
    texts: Vectors


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a shard."""

    number: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """A sample that has been read; `pixels` (1, 3, h, w) if its image is to be embedded."""

    sample: Sample
    picture: Payload | None
    pixels: Pixels | None
    captions: tuple[str, ...]


@dataclass(slots=True)
class _Batch:
    """What is encoded together, and the samples that were read since the last batch."""

    seen: list[_Ready | Rejected | None] = field(default_factory=list)
    pixels: list[Pixels] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    images: Vectors | None = None
    texts: Vectors | None = None
    truncated: int = 0
    end: _End | None = None


class Engine(Protocol):
    """Computes shards, on this machine or on others."""

    def __call__(self, shards: Iterable[Shard], wanted: Wanted) -> Iterator[int | Embedded]:
        """Yield each shard when it is complete, in any order, and in between the number of samples processed."""
        ...


def embed(shards: Iterable[Shard], wanted: Wanted, encoder: Encoder) -> Iterator[int | Embedded]:
    """Embed shards.

    Args:
        shards: the shards, which come out in this order.
        wanted: what to embed of each sample.
        encoder: the model.

    Yields:
        The number of samples after each batch, and each shard once it is complete.

    Raises:
        TuwenError: from the encoder.
    """
    stages = _Stages(encoder, wanted)
    with (
        closing(_items(shards)) as items,
        closing(run(items, stages.prepare, _batches, stages.encode, threads=encoder.threads)) as encoded,
    ):
        yield from _collected(encoded, encoder.dim)


def _items(shards: Iterable[Shard]) -> Generator[Listed | Sample | Rejected | _End]:
    for shard in shards:
        yield from read_rows(shard.listed)
        yield _End(shard.number)


class _Stages:
    """The stages that use the model. Thread-safe."""

    def __init__(self, encoder: Encoder, wanted: Wanted) -> None:
        self._encoder = encoder
        self._wanted = wanted
        self._sidecars = Sidecars()

    def prepare(self, item: Listed | Sample | Rejected | _End) -> _Ready | Rejected | _End | None:
        """Read and decode a sample: its pixels and captions, or why not; None if it has nothing to embed."""
        sample = read_sample(item) if isinstance(item, Listed) else item
        if not isinstance(sample, Sample):
            return sample
        missing = self._missing(sample)
        if missing:
            return Rejected(
                sample.name or sample.key,
                f"has no {missing}, and this layout needs both: embed one of them with --only",
            )
        captions = sample.captions if self._wanted.texts else ()
        if not self._wanted.images or sample.image is None:
            return _Ready(_lighter(sample), None, None, captions) if captions else None
        return self._decoded(sample, sample.image, captions)

    def _missing(self, sample: Sample) -> str:
        if not self._wanted.paired:
            return ""
        return "image" if sample.image is None else "caption" if not sample.captions else ""

    def _decoded(self, sample: Sample, image: bytes, captions: tuple[str, ...]) -> _Ready | Rejected:
        decoded = self._encoder.decode(image, sample.name)
        if isinstance(decoded, Rejected):
            return Rejected(sample.name or sample.key, decoded.reason)
        path = Path(sample.place)
        sidecar = self._sidecars.of(path) if sample.filed else None
        source = Source(sample.key, path, len(image), sample.modified, sidecar)
        content = hashlib.sha256(image).hexdigest()
        picture = image_payload(source, content, decoded.facts, completed(decoded.metadata, source))
        return _Ready(_lighter(sample), picture, decoded.pixels, captions)

    def encode(self, batch: _Batch) -> _Batch:
        """Encode pixels and captions."""
        if batch.pixels:
            batch.images = self._encoder.encode_pixels(np.concatenate(batch.pixels))
            batch.pixels = []
        if batch.captions:
            tokens = self._encoder.to_tokens(batch.captions)
            batch.texts, batch.truncated = self._encoder.encode_tokens(tokens), tokens.truncated
        return batch


def _lighter(sample: Sample) -> Sample:
    """The sample without the image's content, which is no longer needed."""
    return replace(sample, image=None)


def _batches(prepared: Iterable[_Ready | Rejected | _End | None]) -> Iterator[_Batch]:
    """Group samples into batches of `BATCH` images or `TEXTS` captions; a shard's last batches are smaller."""
    batch = _Batch()
    for item in prepared:
        if isinstance(item, _End):
            batch.end = item
            yield batch
            batch = _Batch()
            continue
        if isinstance(item, _Ready):
            batch.pixels += [] if item.pixels is None else [item.pixels]
            batch.captions += item.captions
            item = _Ready(item.sample, item.picture, None, item.captions)  # noqa: PLW2901  (frees its pixels)
        batch.seen.append(item)
        full_pixels, full_captions = len(batch.pixels) >= BATCH, len(batch.captions) >= TEXTS
        if full_pixels or full_captions:
            rest = _Batch(pixels=[] if full_pixels else batch.pixels, captions=[] if full_captions else batch.captions)
            batch.pixels = batch.pixels if full_pixels else []
            batch.captions = batch.captions if full_captions else []
            yield batch
            batch = rest


def _collected(encoded: Iterable[_Batch], dim: int) -> Iterator[int | Embedded]:
    batches: list[_Batch] = []
    for batch in encoded:
        batches.append(batch)
        yield len(batch.seen)
        if batch.end is not None:
            yield _embedded(batches, batch.end.number, dim)
            batches = []


def _embedded(batches: Sequence[_Batch], number: int, dim: int) -> Embedded:
    """Join the batches of a shard. Vectors are in the order of samples, so rows are counted."""
    none = np.empty((0, dim), dtype=np.float32)
    whole = Embedded(
        number,
        items=[],
        rejected=[],
        skipped=0,
        truncated=sum(batch.truncated for batch in batches),
        images=np.concatenate([none, *(batch.images for batch in batches if batch.images is not None)]),
        texts=np.concatenate([none, *(batch.texts for batch in batches if batch.texts is not None)]),
    )
    image = text = 0
    for item in (item for batch in batches for item in batch.seen):
        if item is None:
            whole.skipped += 1
        elif isinstance(item, Rejected):
            whole.rejected.append(item)
        else:
            pictured = item.picture is not None
            whole.items.append(
                Item(item.sample, item.picture, image if pictured else None, text if item.captions else None)
            )
            image += pictured
            text += len(item.captions)
    assert (image, text) == (len(whole.images), len(whole.texts)), "a vector was lost between the stages"
    return whole
