"""The pairs of a run as batches: mixed, divided among processes, read ahead by threads, resumable to the pair.

    Listing -> order of an epoch -> this process's share -> Examples.read -> Collate -> Batch

What comes, and in which order, depends on seed, batch and processes; not on threads or interruptions. Knows how
batches are filled. Does not know how a pair is read, nor a model.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import count, repeat
from typing import Any, TypeAlias, TypeVar

from tuwen.errors import InvalidInput
from tuwen.tasks.ahead import ahead, threads
from tuwen.train.batch import Batch
from tuwen.train.collate import Collate
from tuwen.train.examples import Example, Examples
from tuwen.train.listing import Listing
from tuwen.train.order import Mixing, Part, Share
from tuwen.types import Rejected

T = TypeVar("T")
State: TypeAlias = dict[str, Any]
"""plain values, as JSON has them"""

EARLY = 16
"""pairs that each thread may be ahead"""
BATCHES_EARLY = 2
"""batches that are ready, or being made, while one is in use"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How pairs become batches; see the configuration's keys of the same names. `batch` is of one process."""

    batch: int
    seed: int = 0
    part: Part = field(default_factory=Part)
    workers: int = 0
    buffer: int | None = 10_000
    drop_last: bool = True
    max_bad: float = 0.01


@dataclass(frozen=True, slots=True)
class _Place:
    """How far an epoch is: batches made, pairs of the share taken for them, and those that could not be read."""

    epoch: int = 0
    batches: int = 0
    taken: int = 0
    bad: int = 0


class Stream:
    """Batches, an epoch each time it is gone through. Begun again after a break, it goes on where it was.

    Attributes:
        epoch: which one comes, or is under way; counted from 0.
        skipped: key of a pair that could not be read -> why, of all epochs; what listing rejected is in it, too.
    """

    def __init__(self, listing: Listing, examples: Examples, collate: Collate, plan: Plan) -> None:
        """Begin before the first batch.

        Raises:
            InvalidInput: there are too few pairs, or too many that are none.
        """
        self._listing, self._examples, self._collate, self._plan = listing, examples, collate, plan
        self._share = Share(len(listing), plan.batch, plan.part, drop_last=plan.drop_last)
        self._mixing = Mixing(plan.buffer, plan.seed)
        self._place = _Place()
        self.skipped = {item.path: item.reason for item in listing.rejected}
        most = plan.max_bad * (len(listing) + len(self.skipped))
        if len(self.skipped) > most:
            raise self._too_many(len(self.skipped))
        self._most_bad = (most - len(self.skipped)) / plan.part.world

    def __len__(self) -> int:
        """How many batches an epoch has; the same in every process, whatever cannot be read."""
        return self._share.batches

    @property
    def epoch(self) -> int:
        """Which epoch comes, or is under way; counted from 0."""
        return self._place.epoch

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch from here on.

        Raises:
            InvalidInput: more pairs than allowed cannot be read.
        """
        workers = self._plan.workers
        with threads(workers) if workers else nullcontext() as pool:
            numbers = self._numbers()
            read = map(self._read, numbers) if pool is None else ahead(pool, self._read, numbers, EARLY * workers)
            with closing(self._batches(read)) as batches:
                for batch, place, skipped in batches if pool is None else _in_background(batches):
                    self._place = place
                    self.skipped |= skipped
                    yield batch
        self._place = _Place(epoch=self._place.epoch + 1)

    def state(self) -> State:
        """Where the stream is, after the batch that it gave last. Each process has a state of its own."""
        return {"data": self._identity(), "place": asdict(self._place), "skipped": dict(self.skipped)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            InvalidInput: it was taken of other pairs, or they are divided otherwise.
        """
        for name, value in self._identity().items():
            if state["data"].get(name) != value:
                raise InvalidInput(
                    f"the run's data was left with {name} {state['data'].get(name)!r}, and now it is {value!r}: "
                    "resume with the same pairs and settings, or begin a new run from the checkpoint's weights"
                )
        self._place = _Place(**state["place"])
        self.skipped |= state["skipped"]

    def _identity(self) -> State:
        """All that decides which pair comes when."""
        plan = self._plan
        return {
            "pairs": self._listing.fingerprint,
            "batch": plan.batch,
            "seed": plan.seed,
            "rank": plan.part.rank,
            "world": plan.part.world,
            "buffer": plan.buffer,
            "drop_last": plan.drop_last,
        }

    def _numbers(self) -> Iterator[int]:
        """The numbers of this process's pairs, from where the epoch is; after the last one, the first again."""
        order = self._mixing.order(self._listing.shards, len(self._listing), self._place.epoch)
        return (int(order[self._share.place(position)]) for position in count(self._place.taken))

    def _read(self, number: int) -> Example | Rejected:
        return self._examples.read(self._listing[number], self._place.epoch)

    def _batches(
        self, read: Iterator[Example | Rejected]
    ) -> Generator[tuple[Batch, _Place, Mapping[str, str]], None, None]:
        """Each batch, with where the epoch is after it and what was skipped for it."""
        place = self._place
        while place.batches < len(self):
            size = self._share.size(place.batches)
            examples: list[Example] = []
            skipped: dict[str, str] = {}
            while len(examples) < size:
                item = next(read)
                place = replace(place, taken=place.taken + 1, bad=place.bad + isinstance(item, Rejected))
                if isinstance(item, Example):
                    examples.append(item)
                    continue
                skipped[item.path] = item.reason
                if place.bad > self._most_bad:
                    self.skipped |= skipped
                    raise self._too_many(place.bad)
            place = replace(place, batches=place.batches + 1)
            yield self._collate(examples), place, skipped

    def _too_many(self, bad: int) -> InvalidInput:
        shown = "; ".join(f"{key} {reason}" for key, reason in list(self.skipped.items())[-3:])
        return InvalidInput(
            f"{bad} of {len(self._listing) + len(self._listing.rejected)} pairs cannot be used, more than "
            f"data.max_bad = {self._plan.max_bad:g} of them: {shown}. Mend them, or raise data.max_bad"
        )


def _in_background(items: Iterator[T]) -> Iterator[T]:
    """The same items, made by a thread while others are in use."""

    def following(_: None) -> T | None:
        return next(items, None)

    with threads(1) as pool:
        for item in ahead(pool, following, repeat(None), BATCHES_EARLY):
            if item is None:
                return
            yield item
