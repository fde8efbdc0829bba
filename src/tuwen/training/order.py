"""In which order pairs come, and which process takes which: arithmetic on numbers, the same in every process.

Knows how many pairs there are and where shards begin. Does not know what a pair is.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput

# ---- Random numbers that depend on what they are for alone: not on threads, processes or interruptions.


def chance(*what: object) -> int:
    """A seed of 64 bits for this purpose, e.g. `chance(seed, epoch, key, "caption")`."""
    digest = hashlib.blake2b("\0".join(map(str, what)).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())


def key_of(content: bytes | memoryview) -> int:
    """A number of 64 bits with sign, equal for equal content."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)


# ---- In which order pairs come


@dataclass(frozen=True, slots=True)
class Part:
    """Which of `world` processes this is, counted from 0."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True)
class Mixing:
    """How pairs are mixed: shards in random order, then pairs within stretches of `buffer`; None: not at all."""

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
    """What one process takes of an epoch: its stretch of every batch of all processes, then what is left over.

    Together the processes take everything once. Of a last batch that is not full each takes as many as the others,
    for which up to `world` - 1 pairs of the epoch's beginning come again.
    """

    def __init__(self, count: int, batch: int, part: Part, *, drop_last: bool) -> None:
        """Divide.

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
            raise InvalidInput(
                f"there are {count} pairs that can be trained on, fewer than one batch of {batch} for each of "
                f"{part.world} processes: lower run.batch, add pairs to data.train, or set data.drop_last: false"
            )

    def __len__(self) -> int:
        return self._whole + self._rest

    def size(self, number: int) -> int:
        """How many pairs batch `number` has."""
        return self._last if self._last and number == self.batches - 1 else self._batch

    def place(self, position: int) -> int:
        """Where in the epoch's order this process's pair `position` stands; after its last one, its first again."""
        rank, world = self._part.rank, self._part.world
        if position < self._whole:
            step, within = divmod(position, self._batch)
            return (step * world + rank) * self._batch + within
        beyond = position - self._whole
        if beyond < self._rest:
            return self._whole * world + rank + beyond * world
        beyond -= self._rest
        return self.place(beyond % len(self)) if len(self) else (rank + beyond * world) % self._count
