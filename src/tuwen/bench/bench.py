"""How fast a model is here: throughput by batch size, latency, the share of the machine, one whole job.

Preparing (decoding, resizing, tokenising) and computing are timed apart, for every contender in the same rounds.
Knows contenders, not what they are made of.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from tuwen.bench.operations import GEMM_FLOPS, measurable, products
from tuwen.bench.targets import Contender
from tuwen.bench.workloads import FIFTY, FIVE, Material, questions
from tuwen.bundle.manifest import TOWERS, Tower
from tuwen.errors import require

# ---- Contenders that take turns, so that whatever else the machine does hits all of them alike.

Steps: TypeAlias = tuple[float, ...]
"""Seconds that each step of one call took."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: about so long for all contenders of a case together.
        least: but at least so many rounds.
        most: and at most so many.
        pause: seconds before each turn: some thread pools go on spinning for a while after their work is done.
    """

    seconds: float
    least: int
    most: int
    pause: float = 0.0

    def rounds(self, first: float) -> int:
        """How many rounds, if the first took so many seconds."""
        return max(self.least, min(self.most, math.ceil(self.seconds / max(first, 1e-6))))


@dataclass(frozen=True, slots=True)
class Timing:
    """One step of one contender, round by round, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the rounds took longer."""
        return self.percentile(50)

    def percentile(self, percent: float) -> float:
        """So many percent of the rounds took no longer."""
        return float(np.percentile(self.seconds, percent))

    def times(self, other: "Timing") -> float:
        """How many times as fast as another contender of the same rounds."""
        return float(np.median(np.divide(other.seconds, self.seconds)))


def take_turns(calls: Mapping[K, Callable[[int], Steps]], effort: Effort) -> dict[K, tuple[Timing, ...]]:
    """Let each contender run once a round, after a round that is not counted.

    Args:
        calls: given the round's number, each does its work and returns what its steps took.
        effort: how many rounds.

    Returns:
        A timing for each step of each contender.
    """
    for call in calls.values():
        call(0)  # loads, compiles and touches what the first call does
    start = time.perf_counter()
    taken = {name: [_turn(call, 1, effort.pause)] for name, call in calls.items()}
    for number in range(2, effort.rounds(time.perf_counter() - start) + 1):
        for name, call in calls.items():
            taken[name].append(_turn(call, number, effort.pause))
    return {name: tuple(map(Timing, zip(*rounds, strict=True))) for name, rounds in taken.items()}


def _turn(call: Callable[[int], Steps], number: int, pause: float) -> Steps:
    time.sleep(pause)
    return call(number)


# ---- How fast a model is here

Part: TypeAlias = Literal["image", "text", "five-fifty"]
Flops: TypeAlias = Callable[[Tower, Sequence[int]], float | None]
"""Operations of a tower's products: for pictures given `[number]`, for texts the number of tokens of each."""

BATCHES = (1, 4, 8, 16, 32, 64)
FULL = Effort(seconds=20, least=5, most=30)
QUICK = Effort(seconds=1, least=3, most=5)
LATENCY = 10
"""so many times as many rounds at batch 1, whose percentiles are of interest"""
TORCH, TORCH_CUT = "torch", "torch-cut"
"""whom others are compared with: texts padded to the context length, and to the longest of the batch"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is measured.

    Attributes:
        parts: of `image`, `text`, `five-fifty`.
        batches: sizes, for the first two.
        effort: for each case.
        material: pictures and captions.
    """

    parts: Sequence[Part]
    batches: Sequence[int]
    effort: Effort
    material: Material

    def cases(self) -> list[tuple[Part, int]]:
        """All of them, in turn: the part and its batch."""
        towers = [(part, batch) for part in self.parts if part != "five-fifty" for batch in self.batches]
        return towers + [(part, FIVE) for part in self.parts if part == "five-fifty"]


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one case.

    Attributes:
        part: which.
        batch: pictures or texts at a time.
        runtime: the contender's.
        precision: likewise.
        device: likewise.
        prepare: reading and resizing pictures, tokenising texts.
        model: the tower; of the job everything, preparing and scores included.
        flops: operations of the tower's products; None where they are not known.
        times_torch: how many times as fast as PyTorch in the same rounds; None where it did not take part.
        times_torch_cut: as PyTorch with texts padded to the batch's longest only.
    """

    part: Part
    batch: int
    runtime: str
    precision: str
    device: str
    prepare: Timing
    model: Timing
    flops: float | None
    times_torch: float | None
    times_torch_cut: float | None

    @property
    def per_second(self) -> float:
        """Pictures or texts; jobs."""
        return (1 if self.part == "five-fifty" else self.batch) / self.model.median

    def ceiling(self, rates: Mapping[str, float]) -> float | None:
        """The share of this machine's best rate at the precision; None where one of the two is not known."""
        if self.flops is None or self.precision not in rates or self.device != "cpu":
            return None
        return self.flops / self.model.median / rates[self.precision]


def measure(request: Request, contenders: Sequence[Contender], flops: Flops) -> Iterator[list[Row]]:
    """Case by case, a row for each contender."""
    for part, batch in request.cases():
        able = [contender for contender in contenders if _takes_part(contender, part)]
        calls = {contender.name: partial(_CALLS[part], contender, batch, request.material) for contender in able}
        taken = take_turns(calls, _effort(request.effort, part, batch))
        tower = _TOWERS[part][0] if len(_TOWERS[part]) == 1 else None
        operations = flops(tower, _lengths(part, batch, contenders[0], request.material)) if tower else None
        yield [_row(part, batch, contender, taken, operations) for contender in able]


def _takes_part(contender: Contender, part: Part) -> bool:
    """It has the towers; and how texts are padded is nothing to pictures."""
    return set(_TOWERS[part]) <= set(contender.towers) and (part, contender.runtime) != ("image", TORCH_CUT)


def rates(precisions: Sequence[str], threads: int, effort: Effort) -> dict[str, float]:
    """Operations a second of matrix products alone, at best, in each precision that the CPU has."""
    chosen = [name for name in precisions if name in measurable()]
    calls = {name: partial(_timed, products(name, threads)) for name in chosen}
    taken = take_turns(calls, effort) if calls else {}
    return {name: GEMM_FLOPS / min(timing.seconds) for name, (timing,) in taken.items()}


def _timed(call: Callable[[], object], turn: int) -> Steps:  # noqa: ARG001
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start,)


def _images(contender: Contender, batch: int, material: Material, turn: int) -> Steps:  # noqa: ARG001
    files, start = material.pictures(batch), time.perf_counter()
    pixels, between = contender.to_pixels(files), time.perf_counter()
    contender.images(pixels)
    return between - start, time.perf_counter() - between


def _texts(contender: Contender, batch: int, material: Material, turn: int) -> Steps:
    texts, start = material.texts(batch, turn), time.perf_counter()
    tokens, between = contender.to_tokens(texts), time.perf_counter()
    contender.texts(tokens)
    return between - start, time.perf_counter() - between


def _five_fifty(contender: Contender, batch: int, material: Material, turn: int) -> Steps:
    files, texts, start = material.pictures(batch), questions(turn), time.perf_counter()
    pixels, tokens, between = contender.to_pixels(files), contender.to_tokens(texts), time.perf_counter()
    scores = contender.images(pixels) @ contender.texts(tokens).T
    assert scores.shape == (batch, FIFTY)
    return between - start, time.perf_counter() - start


_CALLS: dict[Part, Callable[[Contender, int, Material, int], Steps]] = {
    "image": _images,
    "text": _texts,
    "five-fifty": _five_fifty,
}


_TOWERS: dict[Part, tuple[Tower, ...]] = {"image": ("vision",), "text": ("text",), "five-fifty": TOWERS}


def _effort(effort: Effort, part: Part, batch: int) -> Effort:
    many = LATENCY if batch == 1 and part != "five-fifty" else 1
    return Effort(effort.seconds, effort.least, effort.most * many, effort.pause)


def _lengths(part: Part, batch: int, contender: Contender, material: Material) -> list[int]:
    """What decides how much there is to compute, for one round's inputs."""
    if part == "image":
        return [batch]
    return [int(length) for length in contender.to_tokens(material.texts(batch, 1)).lengths]


def _row(
    part: Part, batch: int, contender: Contender, taken: Mapping[str, tuple[Timing, ...]], flops: float | None
) -> Row:
    prepare, model = taken[contender.name]
    against: dict[str, Timing] = {name.split()[0]: timings[1] for name, timings in taken.items()}
    torch, cut = against.get(TORCH), against.get(TORCH_CUT)
    return Row(
        part,
        batch,
        contender.runtime,
        contender.precision,
        contender.device,
        prepare,
        model,
        flops,
        None if torch is None else model.times(torch),
        None if cut is None else model.times(cut),
    )


# ---- Throughput over the batch size, drawn: a plot for pictures and one for texts.

_TITLES = {"image": "pictures a second", "text": "texts a second"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")  # the colour-blind, too
_MARKS = "osD^vPX"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write a picture with a line for each contender, in the format of the file's ending.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    parts = [part for part in _TITLES if any(row.part == part for row in rows)]
    names = list(dict.fromkeys(f"{row.runtime} {row.precision}" for row in rows))
    figure = Figure(figsize=(0.6 + 4.4 * len(parts), 3.6), layout="constrained")
    for place, part in enumerate(parts, start=1):
        axes = figure.add_subplot(1, len(parts), place)
        for number, name in enumerate(names):
            chosen = [row for row in rows if row.part == part and f"{row.runtime} {row.precision}" == name]
            (line,) = axes.plot([row.batch for row in chosen], [row.per_second for row in chosen], label=name)
            line.set_color(_COLOURS[number % len(_COLOURS)])
            line.set_marker(_MARKS[number % len(_MARKS)])
        batches = sorted({row.batch for row in rows if row.part == part})
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, labels=list(map(str, batches)))
        axes.set_ylim(bottom=0)
        axes.set_title(_TITLES[part], loc="left", fontsize=11)
        axes.set_xlabel("batch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(file, dpi=110)
