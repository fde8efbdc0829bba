"""Batches of a run's pairs: shuffled, divided among processes, read ahead by threads, resumable at any pair.

    Listing -> order of an epoch -> this process's share -> Examples.read -> Collate -> Batch

The order of pairs depends on the seed, the batch size and the number of processes, not on threads or interruptions.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from itertools import count, repeat
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tuwen.bundle.manifest import TextSpec
from tuwen.data.datasets import SampleReader
from tuwen.data.decode import read_image
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput
from tuwen.models.towers import Towers
from tuwen.runtime.pipeline import prefetch
from tuwen.training.augment import Augment
from tuwen.training.config import DataConfig, TrainConfig
from tuwen.training.pairs import Listing, Mixing, Pair, Part, Share, chance, draw, key_of
from tuwen.types import Rejected, Tokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of an image and a caption, one in each row.

    Attributes:
        pixels: (n, 3, h, w) float32, as the model's image spec says.
        ids: (n, l) int64, padded with the text spec's `pad_id`.
        mask: (n, l) int64, 1 where an id is real and 0 where it is padding.
        image_keys: (n,) int64; equal for equal image files.
        text_keys: (n,) int64; equal for equal ids.
    """

    pixels: "Tensor"
    ids: "Tensor"
    mask: "Tensor"
    image_keys: "Tensor"
    text_keys: "Tensor"

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class Example:
    """A pair that has been read: pixels (3, h, w) float32, one caption, and a hash of the image's content."""

    pixels: NDArray[np.float32]
    text: str
    image_key: int


class Examples:
    """Reads and augments pairs. Thread-safe."""

    def __init__(self, config: DataConfig, augment: Augment, seed: int) -> None:
        self._weights, self._seed = config.languages, seed
        self._augment = augment
        self._reading = augment.reading(exact=config.exact, max_pixels=config.max_pixels)
        self._reader = SampleReader()

    def read(self, pair: Pair, epoch: int) -> Example | Rejected:
        """Read a pair for an epoch; the result may be the reason why it cannot be used."""
        sample = pair.read(self._reader)
        if isinstance(sample, Rejected):
            return sample
        text = draw(
            sample.by_language(pair.source.language or ""),
            self._weights,
            Random(chance(self._seed, epoch, pair.key, "caption")),
        )
        if text is None:
            wanted = f" in {', '.join(self._weights)}" if self._weights else ""
            return Rejected(pair.listed.key, f"has no caption{wanted}")
        if sample.image is None:
            return Rejected(pair.listed.key, "has no image")
        picture = read_image(sample.image, sample.name, self._reading)
        if isinstance(picture, Rejected):
            return Rejected(pair.listed.key, picture.reason)
        random = Random(chance(self._seed, epoch, pair.key, "augment"))
        return Example(self._augment(picture.image, random), text, key_of(sample.image))


ToTokens: TypeAlias = Callable[[Sequence[str]], Tokens]
"""texts to ids, padded to their longest or to the context length"""


class Collate:
    """Stacks images, tokenizes captions, and computes the keys of both."""

    def __init__(self, spec: TextSpec, to_tokens: ToTokens, *, cut: bool) -> None:
        """Prepare.

        Args:
            spec: the text spec of the model.
            to_tokens: the model's tokenizer.
            cut: whether to truncate ids to the longest of their batch, instead of the context length.
        """
        self._spec, self._to_tokens, self._cut = spec, to_tokens, cut

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """The examples as a batch, in their order."""
        tokens = self._to_tokens([example.text for example in examples])
        length = int(tokens.lengths.max()) if self._cut else self._spec.context_length
        ids = np.full((len(examples), length), self._spec.pad_id, dtype=np.int64)
        shared = min(length, tokens.ids.shape[1])
        ids[:, :shared] = tokens.ids[:, :shared]
        mask = np.arange(length) < tokens.lengths[:, None]
        keys = [key_of(row[:size].tobytes()) for row, size in zip(ids, tokens.lengths, strict=True)]
        return Batch(
            pixels=torch.from_numpy(np.stack([example.pixels for example in examples])),
            ids=torch.from_numpy(ids),
            mask=torch.from_numpy(mask.astype(np.int64)),
            image_keys=torch.tensor([example.image_key for example in examples], dtype=torch.int64),
            text_keys=torch.tensor(keys, dtype=torch.int64),
        )


T = TypeVar("T")
State: TypeAlias = dict[str, Any]
"""plain values, as JSON has them"""

EARLY = 16
"""pairs that each thread may be ahead"""
BATCHES_EARLY = 2
"""batches that are prepared while one is in use"""


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings for making batches, named as in the configuration. `batch` is the batch size of one process."""

    batch: int
    seed: int = 0
    part: Part = field(default_factory=Part)
    workers: int = 0
    buffer: int | None = 10_000
    drop_last: bool = True
    max_bad: float = 0.01


@dataclass(frozen=True, slots=True)
class _Place:
    """The position in an epoch: batches made, pairs taken for them, and how many of those could not be read."""

    epoch: int = 0
    batches: int = 0
    taken: int = 0
    bad: int = 0


class Stream:
    """Batches, one epoch for each iteration. An interrupted epoch continues where it was.

    Attributes:
        epoch: the current or next epoch, from 0.
        skipped: key of a pair that could not be read -> the reason, of all epochs and of listing.
    """

    def __init__(self, listing: Listing, examples: Examples, collate: Collate, plan: Plan) -> None:
        """Prepare the first batch.

        Raises:
            InvalidInput: there are too few pairs, or too many that cannot be used.
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
        """How many batches an epoch has; the same in every process."""
        return self._share.batches

    @property
    def epoch(self) -> int:
        """The current or next epoch, from 0."""
        return self._place.epoch

    def __iter__(self) -> Iterator[Batch]:
        """The remaining batches of the epoch.

        Raises:
            InvalidInput: more pairs than allowed cannot be read.
        """
        workers = self._plan.workers
        with ExitStack() as running:
            read: Iterator[Example | Rejected] = map(self._read, self._numbers())
            if workers:
                depth = EARLY * workers
                read = running.enter_context(
                    closing(prefetch(self._read, self._numbers(), threads=workers, depth=depth))
                )
            batches = running.enter_context(closing(self._batches(read)))
            if workers:
                batches = running.enter_context(closing(_in_background(batches)))
            for batch, place, skipped in batches:
                self._place = place
                self.skipped |= skipped
                yield batch
        self._place = _Place(epoch=self._place.epoch + 1)

    def state(self) -> State:
        """The position after the last batch that was returned; each process has its own."""
        return {"data": self._identity(), "place": asdict(self._place), "skipped": dict(self.skipped)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            InvalidInput: it was taken with other pairs, or other settings of batches.
        """
        for name, value in self._identity().items():
            if state["data"].get(name) != value:
                hint = "resume with the same pairs and settings, or start a new run from the checkpoint's weights"
                before = state["data"].get(name)
                message = f"the checkpoint was written with {name} {before!r}, but now it is {value!r}: {hint}"
                raise InvalidInput(message, value=value, where=name, hint=hint)
        self._place = _Place(**state["place"])
        self.skipped |= state["skipped"]

    def _identity(self) -> State:
        """The values that determine the order of the pairs."""
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
        """The numbers of this process's pairs from the current position; after the last one, from the first again."""
        order = self._mixing.order(self._listing.shards, len(self._listing), self._place.epoch)
        return (int(order[self._share.place(position)]) for position in count(self._place.taken))

    def _read(self, number: int) -> Example | Rejected:
        return self._examples.read(self._listing[number], self._place.epoch)

    def _batches(
        self, read: Iterator[Example | Rejected]
    ) -> Generator[tuple[Batch, _Place, Mapping[str, str]], None, None]:
        """Each batch, with the position after it and what was skipped for it."""
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
        total, hint = len(self._listing) + len(self._listing.rejected), "fix them, or raise data.max_bad"
        return InvalidInput(
            f"{bad} of {total} pairs cannot be used, more than data.max_bad={self._plan.max_bad:g} allows; {hint}: "
            f"{shown}",
            value=bad,
            where="data.max_bad",
            hint=hint,
        )


def _in_background(items: Iterator[T]) -> Generator[T]:
    """The same items, made in a thread ahead of their use."""

    def following(_: None) -> T | None:
        return next(items, None)

    with closing(prefetch(following, repeat(None), threads=1, depth=BATCHES_EARLY)) as made:
        for item in made:
            if item is None:
                return
            yield item


def open_stream(config: TrainConfig, towers: Towers, part: Part = Part()) -> Stream:  # noqa: B008  (frozen)
    """List the pairs and prepare the first batch.

    Texts are truncated if `data.cut` is set and `towers.text_spec.cut_exact` says that vectors stay the same.

    Raises:
        InvalidInput: a source cannot be used, or there are too few pairs.
        MissingExtra: a package that a source or an augmentation needs is not installed.
    """
    data, run = config.data, config.run
    assert data is not None, "an objective has its own batches"
    plan = Plan(
        batch=run.batch,
        seed=run.seed,
        part=part,
        workers=run.workers,
        buffer=data.buffer if data.shuffle else None,
        drop_last=data.drop_last,
        max_bad=data.max_bad,
    )
    examples = Examples(data, Augment(config.augment, towers.image_spec), run.seed)
    to_tokens = Tokenizer(towers.tokenizer, towers.text_spec).to_tokens
    collate = Collate(towers.text_spec, to_tokens, cut=data.cut and towers.text_spec.cut_exact)
    return Stream(Listing(data.train), examples, collate, plan)
