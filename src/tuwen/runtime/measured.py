"""Measured choices: which engine, precision and number of threads computes a model fastest on this machine.

A CPU's features tell what it can execute, not what is fast there. So every way to compute a tower is timed once, and
the timings are kept in the cache for as long as the model's files, the engines and the machine stay the same.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import TypeAdapter, ValidationError

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.files import recall, remember
from tuwen.bundle.manifest import TOWERS, Tower
from tuwen.demo import demo_gallery
from tuwen.errors import TuwenError
from tuwen.runtime.encoder import Decoded, Encoder
from tuwen.runtime.machine import cpu_features, cpu_name, engine_versions, usable_cores
from tuwen.runtime.selection import AUTO, FAST, Choice, Plan, make_plan, open_session, possible_plans
from tuwen.types import Pixels, Tokens, Vectors

Size: TypeAlias = Literal["one", "many"]
"""how many inputs a call has: a single one, or a batch"""
SIZES: tuple[Size, ...] = ("one", "many")
Plans: TypeAlias = Mapping[tuple[Tower, Size], Plan]
"""how each tower computes single inputs, and how batches"""
Run: TypeAlias = Callable[[Size], float]
"""computes a single input or a batch, and returns the seconds that it took"""

EXACT = 0.999
"""`auto` takes no plan whose vectors have a lower cosine with the reference"""
GIVE_UP = 3.0
"""a plan is given up when it takes this many times as long as the best so far"""
TRIES = 3
"""runs, after the first, of which all must take so long: one may have been delayed by other work"""
MARGIN = 1.03
"""the default plan is left only for one that is this many times as fast; less is within the error of measuring"""
ROUNDS = (2, 9)
"""a plan is timed at least and at most this often, each time in turn with the best so far"""
SECONDS = 0.2
"""no further round is begun after this time, once the least number of rounds is done"""
CLEAR = 1.5
"""nor once one of the two is this many times as fast"""
STEADY = 1.1
"""but a further round is begun, up to the most, as long as the least time of one of the two is not reached again within
this ratio: other work on the machine delays some runs, and the least is what it delayed least"""
LIMIT = 20.0
"""no further plan is tried after these seconds of processor time on each core; on a busy machine they take longer"""
COUNTS: Mapping[tuple[Tower, Size], int] = {
    ("vision", "one"): 1,
    ("vision", "many"): 4,
    ("text", "one"): 1,
    ("text", "many"): 16,
}
"""how many inputs are timed"""
MANY_CORES = 4
"""from this many cores on, half the threads are tried as well: two that share a core may be slower than one"""

CAPTIONS = (
    *("a dog", "two cats on a red sofa", "一只狗在草地上", "a photo of the old harbour at night", "a bicycle"),
    *("an old man reading a newspaper on a bench in the park", "snow on the mountains", "children playing football"),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How fast one plan computes one tower.

    Attributes:
        tower: which half of the model.
        size: a single input, or a batch.
        plan: how it computes.
        per_second: images or texts; None if the plan was given up because it is far slower than another.
        cosine: the worst cosine with the reference: the one in the bundle's verify report, or else measured here
            against the first plan.
        verified: whether the plan passed in the bundle's verify report.
    """

    tower: Tower
    size: Size
    plan: Plan
    per_second: float | None
    cosine: float
    verified: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """The timings of one model, as the cache keeps them.

    Attributes:
        model: its name.
        facts: everything that the timings depend on, see `facts_of`.
        timings: of every plan that was tried.
        int8: whether int8 was tried as well, which only `fast` needs.
    """

    model: str
    facts: dict[str, Any]
    timings: tuple[Timing, ...]
    int8: bool


def choose(bundle: Bundle, choice: Choice, cache: Path | None, *, measure: bool = False) -> Plans:
    """The fastest plans that the user's choice admits, by what has been measured on this machine.

    Args:
        bundle: the model.
        choice: what the user asks for.
        cache: where timings are kept; None: nothing is kept, and nothing measured.
        measure: measure now if nothing is kept, which takes a few seconds. Otherwise the default plan is taken, except
            for the precision `fast`.

    Raises:
        RuntimeUnavailable: the choice is not available on this machine, or in the bundle.
    """
    default = make_plan(bundle, choice)
    plans: Plans = dict.fromkeys(COUNTS, default)
    if cache is None or choice.static or not choice.is_open:
        return plans
    fast = choice.precision == FAST
    plans = fastest(timings_of(bundle, choice, cache, measure=measure or fast, int8=fast), choice, plans)
    if fast:
        log.info("%s: %s", bundle.manifest.name, described(plans))
    return plans


def described(plans: Plans) -> str:
    """How images and texts are computed, in a line."""
    parts = []
    for tower in TOWERS:
        what = "images" if tower == "vision" else "texts"
        many, one = plans[tower, "many"], plans[tower, "one"]
        apart = f" (one by one on {one.runtime})" if one.runtime != many.runtime else ""
        parts.append(f"{what} in {many.precision} on {many.runtime}{apart}")
    return ", ".join(parts)


def timings_of(bundle: Bundle, choice: Choice, cache: Path, *, measure: bool, int8: bool = False) -> Sequence[Timing]:
    """The timings of every plan on the device of a choice, with `int8` also of those in int8.

    Those that are kept; if there are none, they are measured now, or with `measure` False, there are none.
    """
    facts = facts_of(bundle, make_plan(bundle, choice).device, choice.threads)
    entry = cache / "measured" / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}.json"
    kept = _read(entry)
    if kept is not None and kept.facts == facts and kept.int8 >= int8:
        return kept.timings
    if not measure:
        return ()
    plans = possible_plans(bundle, choice)
    if not int8:
        plans = [plan for plan in plans if plan.precision != "int8"] or plans
    if len(plans) < 2:
        return ()
    timings = tuple(_measured(bundle, plans, cache, fewer_threads=choice.threads is None))
    remember(entry, asdict(Kept(bundle.manifest.name, facts, timings, int8)))
    return timings


def all_kept(cache: Path) -> list[Kept]:
    """The timings of every model that were measured on this machine as it is now, by the models' names."""
    here = _machine_facts()
    found = (_read(entry) for entry in sorted((cache / "measured").glob("*.json")))
    return sorted(
        (kept for kept in found if kept is not None and kept.facts.get("machine") == here), key=lambda kept: kept.model
    )


def facts_of(bundle: Bundle, device: str, threads: int | None) -> dict[str, Any]:
    """Everything that timings depend on: the model's files, the device, threads, and the machine with its engines."""
    return {
        "fingerprint": bundle.manifest.fingerprint(),
        "files": {name: file.sha256 for name, file in bundle.manifest.files.items()},
        "device": device,
        "threads": threads,
        "machine": _machine_facts(),
    }


def _machine_facts() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "features": list(cpu_features()),
        "cores": usable_cores(),
        "engines": engine_versions(),
    }


def _read(entry: Path) -> Kept | None:
    """What is kept in a file; None if there is nothing, or something else than this version writes."""
    try:
        return TypeAdapter(Kept).validate_python(recall(entry))
    except ValidationError:
        return None


def fastest(timings: Iterable[Timing], choice: Choice, default: Plans) -> Plans:
    """For single inputs and batches of each tower, the fastest of the plans that the user's choice admits.

    Both sizes of a tower share a precision, the one whose disadvantage in either is smallest: a vector must not depend
    on whether other inputs came along.

    Args:
        timings: what was measured.
        choice: what the user asks for.
        default: the plans where nothing is measured, or nothing is faster by `MARGIN`.
    """
    plans = dict(default)
    for tower in TOWERS:
        rates: dict[str, dict[Size, dict[Plan, float]]] = {}
        for it in timings:
            if it.tower == tower and it.per_second and _admits(choice, it, default[tower, it.size].precision):
                bonus = MARGIN if it.plan == default[tower, it.size] else 1.0
                rates.setdefault(it.plan.precision, {}).setdefault(it.size, {})[it.plan] = it.per_second * bonus
        complete = [sizes for sizes in rates.values() if len(sizes) == len(SIZES)]
        if complete:
            best = {size: max(max(sizes[size].values()) for sizes in complete) for size in SIZES}
            taken = max(complete, key=lambda sizes: min(max(sizes[size].values()) / best[size] for size in SIZES))
            plans |= {(tower, size): max(taken[size], key=taken[size].__getitem__) for size in SIZES}
    return plans


def by_auto(timings: Sequence[Timing]) -> Plans:
    """The plans that `auto` takes, given timings whose first plan is the default."""
    plans = {(it.tower, it.size): it.plan for it in reversed(timings)}
    return fastest(timings, Choice(), plans) if len(plans) == len(COUNTS) else plans


def _admits(choice: Choice, timing: Timing, default: str) -> bool:
    """Whether a plan may be taken. `default`: the precision of the default plan, which always may."""
    if choice.runtime not in ("auto", timing.plan.runtime):
        return False
    if choice.precision == AUTO:
        exact = timing.plan.precision != "int8" and timing.cosine >= EXACT
        return exact or timing.plan.precision == default
    if choice.precision == FAST:
        return timing.verified or timing.cosine >= EXACT
    return timing.plan.precision == choice.precision


def _measured(bundle: Bundle, plans: Sequence[Plan], cache: Path, *, fewer_threads: bool) -> Iterator[Timing]:
    """Time the plans in both towers."""
    log.info("%s: measuring once what computes it fastest on this machine", bundle.manifest.name)
    deadline = time.process_time() + LIMIT * usable_cores()
    fewer = fewer_threads and usable_cores() >= MANY_CORES
    pixels, tokens = _inputs(bundle)
    for tower in TOWERS:
        timed = _Timed(bundle, tower, cache, pixels if tower == "vision" else tokens)
        found = time_plans(plans, timed.open, fewer_threads=fewer, expired=lambda: time.process_time() > deadline)
        for (plan, size), seconds in found.items():
            rate = None if seconds is None else COUNTS[tower, size] / seconds
            yield Timing(tower, size, plan, rate, *timed.quality(plan))


def time_plans(
    plans: Sequence[Plan],
    open_plan: Callable[[Plan], Run],
    *,
    fewer_threads: bool = False,
    expired: Callable[[], bool] = lambda: False,
) -> dict[tuple[Plan, Size], float | None]:
    """Time plans in turns with the best so far, so that other work on the machine affects both alike.

    Args:
        plans: the default first. At most three of them are open at a time.
        open_plan: loads a tower; a plan for which it raises a `TuwenError` is left out.
        fewer_threads: also time the best plans with half their threads.
        expired: whether the time is up; the first plan is timed in any case.

    Returns:
        Seconds for an input or a batch; None for plans that were given up.
    """
    found: dict[tuple[Plan, Size], float | None] = {}
    best: dict[Size, tuple[Run, float]] = {}
    for plan in chain(plans, _halved(found) if fewer_threads else ()):
        if best and expired():
            break
        try:
            run = open_plan(plan)
            for size in SIZES:
                found[plan, size] = seconds = _seconds(run, size, best.get(size))
                if seconds is None:
                    break  # single inputs are first: what is far too slow for them need not be tried on a batch
                if size not in best or seconds < best[size][1]:
                    best[size] = run, seconds
        except TuwenError as error:
            log.info("%s %s cannot be measured: %s", plan.runtime, plan.precision, error)
    return found


def _halved(found: Mapping[tuple[Plan, Size], float | None]) -> Iterator[Plan]:
    """The best plans so far, int8 and others apart, with half their threads. What it reads is complete by then."""
    rates = {key: seconds for key, seconds in found.items() if seconds is not None}
    for size in SIZES:
        for is_int8 in (False, True):
            able = [key for key in rates if key[1] == size and (key[0].precision == "int8") == is_int8]
            if able:
                plan, _ = min(able, key=rates.__getitem__)
                half = replace(plan, threads=plan.threads // 2)
                if (half, size) not in found:
                    yield half


def _seconds(run: Run, size: Size, best: tuple[Run, float] | None) -> float | None:
    """What an input or a batch takes, by the ratio to the best so far; None if that is above `GIVE_UP`."""
    first = run(size)  # allocates memory, and may compile for this shape
    mine: list[float] = []
    if best is None:
        for _ in _rounds(mine):
            mine.append(run(size))  # noqa: PERF401  (`_rounds` reads the list as it grows)
        return min(mine)
    other, seconds = best
    if first > GIVE_UP * seconds and min(run(size) for _ in range(TRIES)) > GIVE_UP * seconds:
        return None
    theirs: list[float] = []
    for _ in _rounds(mine, theirs):
        mine.append(run(size))
        theirs.append(other(size))
    ratio = min(mine) / min(theirs)
    return None if ratio > GIVE_UP else ratio * seconds


def _rounds(*timed: Sequence[float]) -> Iterator[int]:
    """Numbers of rounds, as long as a further one is needed; `timed` grows by one number in each."""
    least, most = ROUNDS
    start = time.monotonic()
    for number in range(most):
        if number >= least and all(map(_is_steady, timed)):
            ratio = min(timed[0]) / min(timed[-1])
            if time.monotonic() - start > SECONDS or not 1 / CLEAR < ratio < CLEAR:
                return
        yield number


def _is_steady(times: Sequence[float]) -> bool:
    first, second = sorted(times)[:2]
    return second <= STEADY * first


class _Timed:
    """Times plans of one tower, and keeps the vectors that they compute."""

    def __init__(self, bundle: Bundle, tower: Tower, cache: Path, inputs: Pixels | Tokens) -> None:
        self._bundle = bundle
        self._tower = tower
        self._cache = cache
        self._inputs = inputs
        self._vectors: dict[Plan, Vectors] = {}

    def open(self, plan: Plan) -> Run:
        """Load the tower."""
        bundle, session = self._bundle, open_session(self._bundle, self._tower, plan, self._cache)
        encoder = Encoder(bundle, lambda _: session, precision=plan.precision)

        def run(size: Size) -> float:
            count, inputs = COUNTS[self._tower, size], self._inputs
            start = time.perf_counter()
            if isinstance(inputs, Tokens):
                vectors = encoder.encode_tokens(Tokens(inputs.ids[:count], inputs.lengths[:count]))
            else:
                vectors = encoder.encode_pixels(inputs[:count])
            seconds = time.perf_counter() - start
            if len(vectors) > 1:
                self._vectors[plan] = vectors
            return seconds

        return run

    def quality(self, plan: Plan) -> tuple[float, bool]:
        """`cosine` and `verified` of a plan, see `Timing`."""
        report = self._bundle.manifest.verify.get(plan.file)
        stage = "image" if self._tower == "vision" else "text"
        wanted = (stage, plan.runtime, plan.file if plan.precision == "fp32" else plan.precision)
        checks = report.checks if report is not None else ()
        known = [it for it in checks if (it.stage, it.runtime, it.precision) == wanted]
        cosines = [it.worst_cosine for it in known if it.worst_cosine is not None]
        return min(cosines, default=self._measured_cosine(plan)), bool(known) and all(it.passed for it in known)

    def _measured_cosine(self, plan: Plan) -> float:
        """The worst cosine with the first plan's vectors; 0 if the plan was given up before it computed a batch."""
        if plan not in self._vectors:
            return 0.0
        reference = next(iter(self._vectors.values()))
        return float(np.sum(reference * self._vectors[plan], axis=1, dtype=np.float64).min())


def _inputs(bundle: Bundle) -> tuple[Pixels, Tokens]:
    """Images and texts as the towers read them."""

    def unused(tower: Tower) -> Any:  # noqa: ANN401
        raise AssertionError(tower)  # nothing is encoded

    encoder = Encoder(bundle, unused, precision="fp32")
    files = sorted((demo_gallery() / "activities").glob("*.webp"))[: COUNTS["vision", "many"]]
    decoded = [encoder.decode(file, file.name) for file in files]
    pixels = np.concatenate([it.pixels for it in decoded if isinstance(it, Decoded)])
    texts = CAPTIONS * (COUNTS["text", "many"] // len(CAPTIONS))
    return pixels, encoder.to_tokens(texts)
