"""The pairs of a run: listing, shuffling, and division among processes.

Random choices depend only on the seed, the epoch and the pair, not on threads, processes or interruptions.
"""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.data.datasets import SampleList, SampleReader, list_samples, splits_of
from tuwen.data.samples import Columns, Listed, Sample
from tuwen.errors import InvalidInput
from tuwen.training.config import PairSource
from tuwen.types import Rejected

Captions: TypeAlias = Mapping[str, tuple[str, ...]]
"""language, "" if unknown -> texts; none is empty"""


def draw(captions: Captions, weights: Mapping[str, float], random: Random) -> str | None:
    """Draw a caption, with weights from a language drawn by them. None if there is no caption in those languages."""
    if not weights:
        every = [text for texts in captions.values() for text in texts]
        return random.choice(every) if every else None
    spoken = [language for language in captions if language in weights]
    if not spoken:
        return None
    (language,) = random.choices(spoken, [weights[language] for language in spoken])
    return random.choice(captions[language])


SPLITS = ("train",)
"""the default splits for training, if a dataset has splits"""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image with its captions, listed, and its source. `key` is unique in the run."""

    key: str
    listed: Listed
    source: PairSource

    def read(self, reader: SampleReader) -> Sample | Rejected:
        """The image and the captions as stored, or why they cannot be read."""
        columns, listed = columns_of(self.source), self.listed
        if not columns.of_texts and columns.language is None:
            listed = replace(listed, facts=None)  # only the text file beside an image is needed
        return reader.read(listed, columns)


class Listing:
    """Pairs by number, from 0. May be read by many threads at once.

    Attributes:
        rejected: samples that cannot be used as a pair, with the reason.
        fingerprint: 16 hex digits over the whole listing; if it is equal, so are the numbers.
    """

    def __init__(self, sources: Sequence[PairSource], splits: tuple[str, ...] = SPLITS) -> None:
        """List the sources; `splits` applies to datasets with splits whose source names none.

        Raises:
            InvalidInput: a source does not exist, or is not of a kind that contains pairs.
        """
        self._sources = tuple(sources)
        self._samples, self._of, self._shards = SampleList(), array("H"), array("q")
        self.rejected: list[Rejected] = []
        digest = hashlib.sha256()
        shard = None
        for number, item in _found(self._sources, splits):
            if isinstance(item, Rejected):
                self.rejected.append(item)
                continue
            here = _shard(item)
            if here is None or here != shard:
                self._shards.append(len(self._of))
            shard = here
            self._samples.append(item)
            self._of.append(number)
            size = item.image.size if item.image else 0
            digest.update(f"{number}\0{item.key}\0{size}\0{item.captions}\n".encode("utf-8", "surrogatepass"))
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, number: int) -> Pair:
        listed, source = self._samples[number], self._of[number]
        return Pair(f"{source}/{listed.key}", listed, self._sources[source])

    @property
    def shards(self) -> NDArray[np.int64]:
        """(shards,) the number of the first pair of each; an image in a file of its own is a shard by itself."""
        return np.array(self._shards, dtype=np.int64)


def _found(sources: Sequence[PairSource], splits: tuple[str, ...]) -> Iterator[tuple[int, Listed | Rejected]]:
    for number, source in enumerate(sources):
        is_empty = True
        if source.images is not None and source.path.is_dir():
            hint = "leave it out, or name the annotation file in path"
            raise InvalidInput(f"data: images is for files, but {source.path} is a folder: {hint}", where=source.path)
        wanted = source.splits or (splits if source.path.exists() and splits_of(source.path) else ())
        for item in list_samples([source.path], columns_of(source), splits=wanted):
            if isinstance(item, Rejected):
                yield number, item
            elif isinstance(item, Listed) and item.pictured:  # a text alone does not claim to be a pair
                may_have_caption = item.captioned or item.facts is not None or item.row is not None
                yield number, item if may_have_caption else Rejected(item.key, "has no caption")
            else:
                continue
            is_empty = False
        if is_empty:
            raise InvalidInput(f"data: {source.path} has no pairs of an image and a caption", value=source.path)


def columns_of(source: PairSource) -> Columns:
    """The columns that a source names for its table."""
    by_language = source.captions if isinstance(source.captions, dict) else {}
    caption = None if isinstance(source.captions, dict) else source.captions
    return Columns(
        source.key,
        source.image,
        caption,
        root=source.images,
        captions=by_language,
        language=source.language_column,
        encoding=source.encoding,
    )


def _shard(listed: Listed) -> str | None:
    """The file that contains the pair along with others; None if its image is a file of its own."""
    if listed.row is not None:
        return listed.row.path
    return listed.image.path if listed.image is not None and listed.image.path.lower().endswith(".tar") else None


def chance(*what: object) -> int:
    """A 64-bit seed for one purpose, e.g. `chance(seed, epoch, key, "caption")`."""
    digest = hashlib.blake2b("\0".join(map(str, what)).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


def key_of(content: bytes | memoryview) -> int:
    """A signed 64-bit hash of some content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)


@dataclass(frozen=True, slots=True)
class Part:
    """This process's rank, from 0, among `world` processes."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True)
class Mixing:
    """How pairs are shuffled: shards in random order, then pairs within windows of `buffer`; None: not at all."""

    buffer: int | None
    seed: int

    def order(self, starts: NDArray[np.int64], count: int, epoch: int) -> NDArray[np.int64]:
        """The numbers of all pairs in the order of an epoch.

        Args:
            starts: the first number of each shard, rising from 0.
            count: how many pairs there are.
            epoch: counted from 0.
        """
        if self.buffer is None:
            return np.arange(count, dtype=np.int64)
        random = np.random.default_rng(chance(self.seed, epoch, "order"))
        sizes = np.diff(starts, append=count)
        shards = random.permutation(len(starts))
        moved = np.repeat(starts[shards] - np.cumsum(sizes[shards]) + sizes[shards], sizes[shards])
        numbers: NDArray[np.int64] = np.arange(count, dtype=np.int64) + moved
        for start in range(0, count, self.buffer):
            random.shuffle(numbers[start : start + self.buffer])
        return numbers


class Share:
    """The part of an epoch that one process takes: its section of every global batch, then of the rest.

    Together the processes take every pair once. An incomplete last batch is divided evenly, for which up to
    `world` - 1 pairs from the start of the epoch come twice.
    """

    def __init__(self, count: int, batch: int, part: Part, *, drop_last: bool) -> None:
        """Divide an epoch.

        Args:
            count: how many pairs there are.
            batch: of one process.
            part: which process this is.
            drop_last: whether there is no last batch that is not full.

        Raises:
            InvalidInput: there is not one batch.
        """
        self._count, self._batch, self._part = count, batch, part
        whole, rest = divmod(count, batch * part.world)
        self._whole = whole * batch
        self._rest = len(range(part.rank, rest, part.world))
        self._last = 0 if drop_last or rest == 0 else -(-rest // part.world)
        self.batches = whole + (self._last > 0)
        if self.batches == 0:
            hint = "lower run.batch, add pairs to data.train, or set data.drop_last: false"
            raise InvalidInput(
                f"{count} pairs are fewer than one batch of {batch} for each of {part.world} processes: {hint}",
                value=count,
                where="data.train",
                hint=hint,
            )

    def __len__(self) -> int:
        return self._whole + self._rest

    def size(self, number: int) -> int:
        """How many pairs batch `number` has."""
        return self._last if self._last and number == self.batches - 1 else self._batch

    def place(self, position: int) -> int:
        """The place in the epoch's order of this process's pair `position`; after the last one, the first again."""
        rank, world = self._part.rank, self._part.world
        if position < self._whole:
            step, within = divmod(position, self._batch)
            return (step * world + rank) * self._batch + within
        beyond = position - self._whole
        if beyond < self._rest:
            return self._whole * world + rank + beyond * world
        beyond -= self._rest
        return self.place(beyond % len(self)) if len(self) else (rank + beyond * world) % self._count
