"""What is chosen from timings, how plans are timed, and what the cache keeps. The timers here are made up."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

import tiny
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.manifest import TOWERS, Check, Report
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.loading import load_encoder
from tuwen.runtime.measured import (
    COUNTS,
    GIVE_UP,
    SIZES,
    TRIES,
    Plans,
    Size,
    Timing,
    all_kept,
    by_auto,
    choose,
    fastest,
    time_plans,
    timings_of,
)
from tuwen.runtime.selection import Choice, Plan

FP32 = Plan("openvino", "cpu", "fp32", "fp32", 4)
ORT = replace(FP32, runtime="onnxruntime")
BF16 = replace(FP32, precision="bf16")
INT8 = replace(FP32, file="int8", precision="int8")
EVERYWHERE: Plans = dict.fromkeys(COUNTS, FP32)
COSINES = {"fp32": 1.0, "bf16": 0.9995, "int8": 0.995}


def timings(rates: Mapping[Plan, tuple[float | None, float | None]], verified: bool = True) -> list[Timing]:
    """Both towers at the same rates, for single inputs and for batches."""
    return [
        Timing(tower, size, plan, rate, COSINES[plan.precision], verified)
        for tower in TOWERS
        for plan, pair in rates.items()
        for size, rate in zip(SIZES, pair, strict=True)
    ]


def taken(found: Plans) -> tuple[Plan, Plan]:
    """The plans for single images and for batches of images; texts have the same."""
    assert {(size, found["vision", size]) for size in SIZES} == {(size, found["text", size]) for size in SIZES}
    return found["vision", "one"], found["vision", "many"]


@pytest.mark.parametrize(
    ("rates", "choice", "expected"),
    [
        ({FP32: (20, 30), ORT: (10, 20)}, Choice(), (FP32, FP32)),
        ({FP32: (20, 30), ORT: (30, 20)}, Choice(), (ORT, FP32)),  # each size has its own engine
        ({FP32: (20, 30), ORT: (20.2, 30.3)}, Choice(), (FP32, FP32)),  # 1 % is within the error
        ({FP32: (20, 30), BF16: (35, 50), INT8: (70, 90)}, Choice(), (BF16, BF16)),
        ({FP32: (20, 35), BF16: (14, 20)}, Choice(), (FP32, FP32)),
        ({FP32: (20, 30), BF16: (24, 20)}, Choice(), (FP32, FP32)),  # both sizes share a precision
        ({FP32: (20, 30), BF16: (None, None)}, Choice(), (FP32, FP32)),
        ({FP32: (20, 30), BF16: (40, None)}, Choice(), (FP32, FP32)),
        ({FP32: (20, 30), INT8: (70, 90)}, Choice(precision="fast"), (INT8, INT8)),
        ({FP32: (20, 30), INT8: (7, 9)}, Choice(precision="fast"), (FP32, FP32)),
        ({FP32: (20, 30), ORT: (30, 40), BF16: (50, 60)}, Choice(precision="fp32"), (ORT, ORT)),
        ({FP32: (20, 30), ORT: (30, 40), BF16: (50, 60)}, Choice(runtime="openvino"), (BF16, BF16)),
        ({}, Choice(), (FP32, FP32)),
    ],
)
def test_the_fastest_admitted_plan_is_taken(
    rates: Mapping[Plan, tuple[float | None, float | None]], choice: Choice, expected: tuple[Plan, Plan]
) -> None:
    assert taken(fastest(timings(rates), choice, EVERYWHERE)) == expected


def test_auto_takes_no_plan_that_changes_vectors() -> None:
    coarse = [replace(it, cosine=0.998) if it.plan == BF16 else it for it in timings({FP32: (20, 30), BF16: (40, 60)})]
    assert taken(fastest(coarse, Choice(), EVERYWHERE)) == (FP32, FP32)


def test_fast_takes_no_plan_that_failed_verification() -> None:
    rates = timings({FP32: (20, 30), INT8: (70, 90)}, verified=False)
    assert taken(fastest(rates, Choice(precision="fast"), EVERYWHERE)) == (FP32, FP32)


def test_a_bundle_with_nothing_but_int8_uses_the_faster_engine() -> None:
    other = replace(INT8, runtime="onnxruntime")
    found = fastest(timings({INT8: (20, 30), other: (40, 60)}), Choice(), dict.fromkeys(COUNTS, INT8))
    assert taken(found) == (other, other)


def test_towers_are_chosen_apart() -> None:
    rates = timings({FP32: (20, 30), ORT: (10, 20)})
    other = [replace(it, per_second=(it.per_second or 0) * (4 if it.plan == ORT else 1)) for it in rates]
    mixed = [it for it in rates if it.tower == "vision"] + [it for it in other if it.tower == "text"]
    found = by_auto(mixed)
    assert {key: plan.runtime for key, plan in found.items()} == {
        ("vision", "one"): "openvino",
        ("vision", "many"): "openvino",
        ("text", "one"): "onnxruntime",
        ("text", "many"): "onnxruntime",
    }


def opener(seconds: Mapping[Plan, float], runs: list[tuple[Plan, Size]]) -> Callable[[Plan], Callable[[Size], float]]:
    """Plans that take so long for an input, and twice as long for a batch; `runs` records what was run."""

    def opened(plan: Plan) -> Callable[[Size], float]:
        if plan not in seconds:
            raise RuntimeUnavailable("cannot be opened here")

        def run(size: Size) -> float:
            runs.append((plan, size))
            return seconds[plan] * (1 if size == "one" else 2)

        return run

    return opened


def test_plans_are_timed_in_turns_with_the_best_so_far() -> None:
    runs: list[tuple[Plan, Size]] = []
    found = time_plans([FP32, ORT, BF16], opener({FP32: 1.0, ORT: 0.9, BF16: 1.1}, runs))
    expected = {FP32: 1.0, ORT: 0.9, BF16: 1.1}
    assert found == {
        (plan, size): pytest.approx(expected[plan] * (1 + place))
        for plan in expected
        for place, size in enumerate(SIZES)
    }
    last = [plan for plan, _ in runs[-4:]]
    assert last == [BF16, ORT, BF16, ORT]


def test_a_plan_that_is_far_slower_is_given_up_before_it_computes_a_batch() -> None:
    runs: list[tuple[Plan, Size]] = []
    found = time_plans([FP32, BF16, ORT], opener({FP32: 1.0, BF16: 1.1 * GIVE_UP, ORT: 0.5}, runs))
    assert found[BF16, "one"] is None
    assert runs.count((BF16, "one")) == 1 + TRIES
    assert (BF16, "many") not in found
    assert (BF16, "many") not in runs
    assert found[ORT, "many"] == 1.0


def test_a_first_run_may_be_slow() -> None:
    calls: list[float] = []

    def opened(plan: Plan) -> Callable[[Size], float]:
        def run(size: Size) -> float:
            calls.append(60.0 if plan == ORT and not any(it == 60.0 for it in calls) else 1.0)
            return calls[-1]

        return run

    assert time_plans([FP32, ORT], opened)[ORT, "one"] == 1.0


@pytest.mark.parametrize("delayed", [ORT, FP32])
def test_runs_that_other_work_delays_do_not_count(delayed: Plan) -> None:
    """Three of four runs of one plan take up to three times as long."""
    delays = cycle([1.8, 3.0, 1.0, 2.2])

    def opened(plan: Plan) -> Callable[[Size], float]:
        return lambda _: (0.8 if plan == ORT else 1.0) * (next(delays) if plan == delayed else 1.0)

    found = time_plans([FP32, ORT], opened)
    assert found[FP32, "many"] == pytest.approx(1.0)
    assert found[ORT, "many"] == pytest.approx(0.8)


def test_what_cannot_be_opened_is_left_out() -> None:
    assert set(time_plans([FP32, BF16], opener({FP32: 1.0}, []))) == {(FP32, "one"), (FP32, "many")}


def test_no_plan_is_tried_after_the_time_but_the_first() -> None:
    found = time_plans([FP32, ORT], opener({FP32: 1.0, ORT: 0.1}, []), expired=lambda: True)
    assert {plan for plan, _ in found} == {FP32}


def test_the_best_exact_and_the_best_int8_plan_are_tried_with_half_the_threads() -> None:
    half = [replace(plan, threads=2) for plan in (ORT, INT8)]
    seconds = {FP32: 1.0, ORT: 0.8, INT8: 0.4, half[0]: 0.7, half[1]: 0.5}
    found = time_plans([FP32, ORT, INT8], opener(seconds, []), fewer_threads=True)
    assert {plan for plan, _ in found} == set(seconds)
    assert found[half[0], "one"] == pytest.approx(0.7)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.write_bundle(tmp_path / "tiny")


def test_what_is_measured_is_kept_and_used(bundle: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    choice = Choice(device="cpu", threads=1)
    assert timings_of(bundle, choice, cache, measure=False) == ()
    assert not all_kept(cache)
    before = choose(bundle, choice, cache)
    assert {plan.precision for plan in before.values()} == {"fp32"}
    timings = timings_of(bundle, choice, cache, measure=True)
    assert {(it.tower, it.size) for it in timings} == set(COUNTS)
    assert {it.plan.runtime for it in timings} == {"openvino", "onnxruntime"}
    finished = [it for it in timings if it.per_second is not None]  # on a busy machine, some may have been given up
    assert all(it.cosine > 0.999 for it in finished if it.plan.precision == "fp32")
    assert timings_of(bundle, choice, cache, measure=False) == timings
    assert choose(bundle, choice, cache) == by_auto(timings)
    [kept] = all_kept(cache)
    assert (kept.model, kept.timings) == (bundle.manifest.name, timings)


def test_other_threads_or_files_are_measured_apart(bundle: Bundle, tmp_path: Path) -> None:
    cache, choice = tmp_path / "cache", Choice(device="cpu", threads=1)
    timings_of(bundle, choice, cache, measure=True)
    assert not timings_of(bundle, replace(choice, threads=2), cache, measure=False)
    name, file = next(iter(bundle.manifest.files.items()))
    files = {**bundle.manifest.files, name: file.model_copy(update={"sha256": "0" * 64})}
    changed = replace(bundle, manifest=bundle.manifest.model_copy(update={"files": files}))
    assert not timings_of(changed, choice, cache, measure=False)


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"model": "m", "facts": {}, "timings": [{"tower": "nose"}]}', "foreign"]
)
def test_what_is_damaged_or_foreign_is_measured_anew(bundle: Bundle, tmp_path: Path, damage: str) -> None:
    cache, choice = tmp_path / "cache", Choice(device="cpu", threads=1)
    timings_of(bundle, choice, cache, measure=True)
    [entry] = (cache / "measured").iterdir()
    if damage == "foreign":  # as if it had been copied from another machine under this name
        kept = json.loads(entry.read_text())
        kept["facts"]["machine"]["cpu"] = "another"
        entry.write_text(json.dumps(kept))
    else:
        entry.write_text(damage)
    assert timings_of(bundle, choice, cache, measure=False) == ()
    assert all_kept(cache) == []
    assert timings_of(bundle, choice, cache, measure=True)
    assert len(all_kept(cache)) == 1


def test_only_who_waits_measures(bundle: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load_encoder(str(bundle.folder), Choice(), models=tmp_path, cache=cache)
    assert not all_kept(cache)
    fixed = Choice(runtime="onnxruntime", precision="fp32")
    load_encoder(str(bundle.folder), fixed, models=tmp_path, cache=cache, measure=True)
    assert not all_kept(cache)
    load_encoder(str(bundle.folder), Choice(threads=1), models=tmp_path, cache=cache, measure=True)
    assert len(all_kept(cache)) == 1
    load_encoder(str(bundle.folder), Choice(precision="fast", threads=2), models=tmp_path, cache=cache)
    assert len(all_kept(cache)) == 2


def test_the_cosine_is_that_of_the_verify_report(bundle: Bundle, tmp_path: Path) -> None:
    stages = [(stage, runtime) for stage in ("image", "text") for runtime in ("onnxruntime", "openvino")]
    checks = tuple(
        Check(
            stage=stage,
            runtime=runtime,
            precision="fp32",
            worst_cosine=0.9,
            mean_cosine=0.9,
            max_abs=0.1,
            top1=None,
            top10=None,
            passed=runtime == "openvino",
        )
        for stage, runtime in stages
    )
    report = {"fp32": Report(passed=True, checks=checks)}
    verified = replace(bundle, manifest=bundle.manifest.model_copy(update={"verify": report}))
    timings = timings_of(verified, Choice(device="cpu", threads=1), tmp_path / "cache", measure=True)
    exact = [it for it in timings if it.plan.precision == "fp32"]
    assert {it.cosine for it in exact} == {0.9}
    assert {it.plan.runtime for it in exact if it.verified} == {"openvino"}


def test_single_inputs_and_batches_run_where_each_is_fastest(bundle: Bundle, tmp_path: Path) -> None:
    cache, choice = tmp_path / "cache", Choice(device="cpu", threads=1)
    timings = timings_of(bundle, choice, cache, measure=True)
    [entry] = (cache / "measured").iterdir()
    kept = json.loads(entry.read_text())
    for it in kept["timings"]:
        wins = (it["size"] == "one") == (it["plan"]["runtime"] == "onnxruntime") and it["plan"]["precision"] == "fp32"
        it["per_second"] = 100.0 if wins else 1.0
    entry.write_text(json.dumps(kept))
    assert timings_of(bundle, choice, cache, measure=False) != timings
    encoder = load_encoder(str(bundle.folder), choice, models=tmp_path, cache=cache)
    assert encoder.runtime == "openvino"
    assert encoder._one_image.runtime == encoder._one_text.runtime == "onnxruntime"
    one, many = encoder.encode_texts(["the dog"]), encoder.encode_texts(["the dog", "a cat"])
    assert abs(one[0] - many[0]).max() < 1e-5


def test_nothing_is_kept_or_measured_without_a_cache(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    assert {plan.precision for plan in choose(bundle, Choice(device="cpu"), None, measure=True).values()} == {"fp32"}
