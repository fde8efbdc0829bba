"""Throughput and latency of a model on this machine, measured in turns with a baseline.

Preparation (decoding, resizing, tokenising) and the model itself are timed apart. All targets take turns, round by
round, so that whatever else the machine does affects all of them alike.
"""

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.bench.cold_start import ColdStart, cold_start
from tuwen.bench.operations import GEMM_FLOPS, Flops, count_flops, matrix_products, measurable
from tuwen.bench.targets import Target
from tuwen.bench.workloads import FIFTY, FIVE, Material, questions
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import TOWERS, Tower
from tuwen.errors import require
from tuwen.runtime.machine import cpu_name
from tuwen.settings import Settings

Part: TypeAlias = Literal["image", "text", "five-fifty"]
WORKLOADS: Mapping[str, tuple[Part, ...]] = {
    "all": ("image", "text", "five-fifty"),
    "towers": ("image", "text"),
    "five-fifty": ("five-fifty",),
}
TORCH, TORCH_CUT = "torch", "torch-cut"
"""the baselines: texts padded to the context length, and to the longest of the batch"""
_TOWERS: Mapping[Part, tuple[Tower, ...]] = {"image": ("vision",), "text": ("text",), "five-fifty": TOWERS}
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: time for all targets of a case together, approximately.
        least: but at least so many rounds.
        most: and at most so many.
        pause: seconds to wait before each turn: some thread pools spin for a while after their work is done.
    """

    seconds: float
    least: int
    most: int
    pause: float = 0.0

    def rounds(self, first: float) -> int:
        """The number of rounds, if the first took so many seconds."""
        return max(self.least, min(self.most, math.ceil(self.seconds / max(first, 1e-6))))


FULL = Effort(seconds=20, least=5, most=30)
QUICK = Effort(seconds=1, least=3, most=5)
LATENCY_ROUNDS = 10
"""batch 1 gets so many times as many rounds, for its percentiles"""


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure.

    Attributes:
        parts: of `image`, `text`, `five-fifty`.
        batches: batch sizes for the first two.
        effort: for each case.
        material: images and captions.
    """

    parts: Sequence[Part]
    batches: Sequence[int]
    effort: Effort
    material: Material

    def cases(self) -> list[tuple[Part, int]]:
        """Every part with its batch sizes."""
        towers = [(part, batch) for part in self.parts if part != "five-fifty" for batch in self.batches]
        return towers + [(part, FIVE) for part in self.parts if part == "five-fifty"]


@dataclass(frozen=True, slots=True)
class Row:
    """One target in one case.

    Attributes:
        part: which.
        batch: images or texts per batch.
        runtime, precision, device: the target's.
        per_second: images or texts; of five-fifty: jobs.
        p50_ms, p95_ms, p99_ms: of the model, for a batch; of five-fifty: of everything, preparation included.
        prepare_ms: the median of preparation.
        rounds: how often it ran.
        ceiling: its share of the CPU's peak rate of matrix products at this precision; None where that is unknown.
        times_torch: how many times as fast as PyTorch in the same rounds; None without a baseline.
        times_torch_cut: likewise, where PyTorch pads texts to the longest of the batch only.
    """

    part: Part
    batch: int
    runtime: str
    precision: str
    device: str
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    prepare_ms: float
    rounds: int
    ceiling: float | None
    times_torch: float | None
    times_torch_cut: float | None

    @property
    def is_baseline(self) -> bool:
        """Whether this is PyTorch."""
        return self.runtime in (TORCH, TORCH_CUT)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The results.

    Attributes:
        bundle: the model.
        threads: for computing.
        rates: the CPU's peak rate of matrix products, in operations a second, by precision.
        rows: a row for each case and target.
        starts: what each target takes to start.
    """

    bundle: Bundle
    threads: int
    rates: Mapping[str, float]
    rows: Sequence[Row]
    starts: Sequence[ColdStart]

    def document(self) -> dict[str, Any]:
        """As `tuwen bench --json` prints it."""
        gemm = [{"precision": name, "gflops": rate / 1e9} for name, rate in self.rates.items()]
        return {
            "bundle": str(self.bundle.folder),
            "model": self.bundle.manifest.name,
            "machine": {"cpu": cpu_name(), "system": platform.platform(), "threads": self.threads, "gemm": gemm},
            "image": self._rows("image"),
            "text": self._rows("text"),
            "jobs": [{"job": "five-fifty", **row} for row in self._rows("five-fifty")],
            "starts": [asdict(start) for start in self.starts],
            "against": [asdict(row) for row in self.rows if row.is_baseline],
        }

    def _rows(self, part: Part) -> list[dict[str, Any]]:
        rows = [asdict(row) for row in self.rows if row.part == part and not row.is_baseline]
        return [{name: value for name, value in row.items() if name != "part"} for row in rows]


def benchmark(  # noqa: PLR0913  (what is measured, and what it is compared with)
    bundle: Bundle,
    targets: Sequence[Target],
    request: Request,
    *,
    threads: int,
    baselines: Sequence[Target] = (),
    settings: Settings | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Benchmark:
    """Measure every case, then the start of every target in a process of its own.

    Args:
        bundle: the model.
        targets: see `bundle_targets` and `converted_target`.
        request: the cases.
        threads: for computing, in all targets.
        baselines: what the targets are compared with, in the same rounds.
        settings: where models and compiled models are kept.
        on_step: called after each step with the number done, of `steps(request, targets)`.
    """
    settings, on_step = settings or Settings(), on_step or (lambda done: None)  # noqa: ARG005
    cases = request.cases()
    precisions = list(dict.fromkeys(target.precision for target in targets))
    before = peak_rates(precisions, threads, request.effort)
    on_step(1)
    flops, measured = count_flops(bundle), []
    for done, (part, batch) in enumerate(cases, start=2):
        measured.append(measure(part, batch, [*targets, *baselines], request, flops))
        on_step(done)
    after = peak_rates(precisions, threads, request.effort)
    rates = {name: max(before[name], rate) for name, rate in after.items()}
    starts = []
    for number, target in enumerate(targets, start=len(cases) + 2):
        starts.append(cold_start(target, bundle.folder.absolute(), settings, threads, max(request.batches)))
        on_step(number)
    return Benchmark(bundle, threads, rates, [row for case in measured for row in case.rows(rates)], starts)


def steps(request: Request, targets: Sequence[Target]) -> int:
    """How many steps a benchmark has: its cases, the peak rates, and a start of each target."""
    return len(request.cases()) + 1 + len(targets)


@dataclass(frozen=True, slots=True)
class Case:
    """The times of one case.

    Attributes:
        part: which.
        batch: its batch size.
        seconds: target -> (rounds, 2): preparation, and the model.
        flops: operations of the tower's matrix products; None where they are unknown.
    """

    part: Part
    batch: int
    seconds: Mapping[Target, NDArray[np.float64]]
    flops: float | None

    def rows(self, rates: Mapping[str, float]) -> list[Row]:
        """A row for each target, given the CPU's peak rates."""
        return [self._row(target, rates) for target in self.seconds]

    def _row(self, target: Target, rates: Mapping[str, float]) -> Row:
        prepare, model = self.seconds[target].T
        p50, p95, p99 = (float(value) for value in np.percentile(model, (50, 95, 99)))
        known = self.flops is not None and target.precision in rates and target.device == "cpu"
        return Row(
            self.part,
            self.batch,
            target.runtime,
            target.precision,
            target.device,
            per_second=(1 if self.part == "five-fifty" else self.batch) / p50,
            p50_ms=p50 * 1000,
            p95_ms=p95 * 1000,
            p99_ms=p99 * 1000,
            prepare_ms=float(np.median(prepare)) * 1000,
            rounds=len(model),
            ceiling=self.flops / p50 / rates[target.precision] if known and self.flops is not None else None,
            times_torch=self._ratio(model, TORCH),
            times_torch_cut=self._ratio(model, TORCH_CUT),
        )

    def _ratio(self, model: NDArray[np.float64], baseline: str) -> float | None:
        """The median over the rounds of the baseline's time by ours: a slow round affects both, and cancels out."""
        theirs = next((seconds[:, 1] for other, seconds in self.seconds.items() if other.runtime == baseline), None)
        return None if theirs is None else float(np.median(theirs / model))


def measure(part: Part, batch: int, targets: Sequence[Target], request: Request, flops: Flops) -> Case:
    """Let the targets that have the part's towers take turns. Padding means nothing to images: no `torch-cut` there."""
    able = [target for target in targets if set(_TOWERS[part]) <= set(target.towers)]
    able = [target for target in able if (part, target.runtime) != ("image", TORCH_CUT)]
    effort, material = request.effort, request.material
    most = effort.most * (LATENCY_ROUNDS if batch == 1 and part != "five-fifty" else 1)
    calls = {target: partial(_CALLS[part], target, batch, material) for target in able}
    seconds = take_turns(calls, Effort(effort.seconds, effort.least, most, effort.pause))
    operations = None
    if part == "image":
        operations = flops("vision", [batch])
    elif part == "text":
        lengths = targets[0].to_tokens(material.texts(batch, 1)).lengths
        operations = flops("text", [int(length) for length in lengths])
    return Case(part, batch, seconds, operations)


def take_turns(calls: Mapping[K, Callable[[int], Sequence[float]]], effort: Effort) -> dict[K, NDArray[np.float64]]:
    """Call each function once a round, after a round that is not counted.

    Args:
        calls: given the round's number, each does its work and returns the seconds that its steps took.
        effort: how many rounds.

    Returns:
        (rounds, steps) seconds for each.
    """
    for call in calls.values():
        call(0)  # loads, compiles and allocates
    taken: dict[K, list[Sequence[float]]] = {name: [] for name in calls}

    def turn(number: int) -> None:
        for name, call in calls.items():
            time.sleep(effort.pause)
            taken[name].append(call(number))

    start = time.perf_counter()
    turn(1)
    for number in range(2, effort.rounds(time.perf_counter() - start) + 1):
        turn(number)
    return {name: np.array(rounds) for name, rounds in taken.items()}


def peak_rates(precisions: Sequence[str], threads: int, effort: Effort) -> dict[str, float]:
    """The best rate of matrix products alone, in operations a second, in each precision that the CPU supports."""
    chosen = [name for name in precisions if name in measurable()]
    calls = {name: partial(_timed, matrix_products(name, threads)) for name in chosen}
    taken = take_turns(calls, effort) if calls else {}
    return {name: GEMM_FLOPS / float(seconds.min()) for name, seconds in taken.items()}


def _timed(call: Callable[[], object], _: int) -> Sequence[float]:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start,)


def _images(target: Target, batch: int, material: Material, _: int) -> Sequence[float]:
    files, start = material.pictures(batch), time.perf_counter()
    pixels, between = target.to_pixels(files), time.perf_counter()
    target.images(pixels)
    return between - start, time.perf_counter() - between


def _texts(target: Target, batch: int, material: Material, turn: int) -> Sequence[float]:
    texts, start = material.texts(batch, turn), time.perf_counter()
    tokens, between = target.to_tokens(texts), time.perf_counter()
    target.texts(tokens)
    return between - start, time.perf_counter() - between


def _five_fifty(target: Target, batch: int, material: Material, turn: int) -> Sequence[float]:
    files, texts, start = material.pictures(batch), questions(turn), time.perf_counter()
    pixels, tokens, between = target.to_pixels(files), target.to_tokens(texts), time.perf_counter()
    scores = target.images(pixels) @ target.texts(tokens).T
    assert scores.shape == (batch, FIFTY)
    return between - start, time.perf_counter() - start


_CALLS: Mapping[Part, Callable[[Target, int, Material, int], Sequence[float]]] = {
    "image": _images,
    "text": _texts,
    "five-fifty": _five_fifty,
}

_TITLES = {"image": "images per second", "text": "texts per second"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")  # safe for colour blindness
_MARKERS = "osD^vPX"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Plot throughput over the batch size, in the format of the file's extension.

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
            line.set_marker(_MARKERS[number % len(_MARKERS)])
        batches = sorted({row.batch for row in rows if row.part == part})
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, labels=list(map(str, batches)))
        axes.set_ylim(bottom=0)
        axes.set_title(_TITLES[part], loc="left", fontsize=11)
        axes.set_xlabel("batch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(file, dpi=110)
