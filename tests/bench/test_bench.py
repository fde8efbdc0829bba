"""A benchmark of a model of a few kilobytes: its targets, its ratios, what is counted."""

import time
from dataclasses import replace

import numpy as np
import pytest

import tiny
from tuwen.bench.bench import QUICK, TORCH, Effort, Request, measure, peak_rates, take_turns
from tuwen.bench.operations import count_flops
from tuwen.bench.targets import Target, bundle_targets
from tuwen.bench.workloads import Material, captions, photo
from tuwen.bundle.manifest import REDUCED_DECODING
from tuwen.data.decode import read_image, reading_for
from tuwen.data.pixels import to_pixels
from tuwen.errors import InvalidInput, RejectedImages, RuntimeUnavailable
from tuwen.runtime.encoder import MAX_PIXELS

pytestmark = pytest.mark.precision

EFFORT = Effort(seconds=0, least=3, most=3)
REQUEST = Request(("image", "text", "five-fifty"), (1, 3), EFFORT, Material([photo(0)]))
ALL = {"device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny.write_bundle(tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture(scope="module")
def targets(bundle) -> list[Target]:
    return bundle_targets(bundle, precisions=["fp32"], **ALL)


def test_every_runtime_takes_part_in_every_precision_that_it_has(bundle) -> None:
    names = {(target.runtime, target.precision) for target in bundle_targets(bundle, **ALL)}
    assert {("onnxruntime", "fp32"), ("openvino", "fp32")} <= names
    assert "int8" not in {precision for _, precision in names}, "the bundle has no such files"
    (only,) = bundle_targets(bundle, runtimes=["openvino"], precisions=["fp32"], **ALL)
    assert only.name == "openvino fp32"


def test_a_target_that_is_named_and_not_available_is_an_error(bundle) -> None:
    with pytest.raises(RuntimeUnavailable):
        bundle_targets(bundle, precisions=["int8"], **ALL)
    with pytest.raises(InvalidInput):
        bundle_targets(bundle, runtimes=["ort"], **ALL)


def test_a_case_has_a_row_for_each_target(bundle, targets) -> None:
    assert REQUEST.cases() == [("image", 1), ("image", 3), ("text", 1), ("text", 3), ("five-fifty", 5)]
    for part, batch in REQUEST.cases():
        rows = measure(part, batch, targets, REQUEST, count_flops(bundle)).rows({})
        assert [row.runtime for row in rows] == [target.runtime for target in targets]
        for row in rows:
            assert row.rounds == 3 or row.batch == 1
            assert row.times_torch is None
            assert row.per_second == pytest.approx(1000 * (1 if part == "five-fifty" else batch) / row.p50_ms)
            assert row.p50_ms <= row.p95_ms <= row.p99_ms
            assert part != "five-fifty" or row.p50_ms > row.prepare_ms, "the job is timed as a whole"


def test_operations_are_those_of_each_text_at_its_own_length(bundle, targets) -> None:
    flops = count_flops(bundle)
    one = 2 * (3 * tiny.SIZE**2 * tiny.WIDTH + tiny.WIDTH * tiny.DIM)
    assert flops("vision", [7]) == 7 * one
    assert flops("text", [3, 9]) == 2 * 2 * tiny.WIDTH * tiny.DIM, "its one product does not depend on the length"
    case = measure("image", 2, targets, REQUEST, flops)
    row = case.rows({"fp32": 1e9})[0]
    assert row.ceiling == pytest.approx(2 * one / (row.p50_ms / 1000) / 1e9)
    assert case.rows({"bf16": 1e9})[0].ceiling is None


def test_ratios_are_to_torch_in_the_same_rounds(bundle, targets) -> None:
    def slowly(pixels):
        time.sleep(0.2)
        return targets[0].images(pixels)

    slow = replace(targets[0], runtime=TORCH, images=slowly)
    rows = measure("image", 2, [*targets, slow], REQUEST, count_flops(bundle)).rows({})
    assert rows[-1].times_torch == 1
    assert all(row.times_torch > 2 for row in rows[:-1])
    assert [row.times_torch_cut for row in rows] == [None] * len(rows)


def test_peak_rates_are_of_the_precisions_that_the_processor_has() -> None:
    found = peak_rates(["fp32", "no such"], 1, replace(QUICK, seconds=0, least=1))
    assert list(found) == ["fp32"]
    assert found["fp32"] > 1e9


def test_an_image_that_cannot_be_read_is_named(targets) -> None:
    with pytest.raises(RejectedImages) as caught:
        targets[0].to_pixels([photo(0), b"no image"])
    assert [item.path for item in caught.value.rejected] == ["image 1"]


@pytest.mark.parametrize("cosine", [1, 0.9999])
def test_photos_are_decoded_as_the_model_decodes_them(bundle, cosine) -> None:
    facts = {**bundle.manifest.facts, REDUCED_DECODING: cosine}
    marked = replace(bundle, manifest=bundle.manifest.model_copy(update={"facts": facts}))
    (target,) = bundle_targets(marked, runtimes=["onnxruntime"], precisions=["fp32"], **ALL)
    content = photo(0)
    pixels = target.to_pixels([content])
    spec = marked.manifest.image
    ways = {
        reduced: read_image(content, "", reading_for(spec, exact=False, max_pixels=MAX_PIXELS, reduced=reduced))
        for reduced in (False, True)
    }
    full, reduced = (to_pixels(spec, [ways[way].image]) for way in (False, True))
    assert abs(full - reduced).max() > 0, "or this photo cannot tell them apart"
    np.testing.assert_array_equal(pixels, reduced if cosine == 1 else full)


def test_targets_agree(targets) -> None:
    vectors = [target.texts(target.to_tokens(captions(9, 0))) for target in targets]
    assert all(abs(vectors[0] - other).max() < 1e-5 for other in vectors[1:])


def test_calls_take_turns_after_a_round_that_is_not_counted() -> None:
    ran: list[tuple[str, int]] = []

    def call(name: str, seconds: float):
        def run(turn: int) -> tuple[float, float]:
            ran.append((name, turn))
            return turn * seconds, seconds

        return run

    taken = take_turns({"a": call("a", 1.0), "b": call("b", 2.0)}, Effort(seconds=0, least=3, most=9))
    assert ran == [(name, turn) for turn in range(4) for name in "ab"]
    assert np.array_equal(taken["a"], [(1, 1), (2, 1), (3, 1)])
    assert np.array_equal(taken["b"], [(2, 2), (4, 2), (6, 2)])


def test_as_many_rounds_as_fit_within_bounds() -> None:
    effort = Effort(seconds=10, least=3, most=20)
    assert [effort.rounds(first) for first in (100, 1, 2.5, 0.001, 0)] == [3, 10, 4, 20, 20]
