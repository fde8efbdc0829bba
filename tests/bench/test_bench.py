"""A benchmark of a model of a few kilobytes: what takes part, what is compared, what is counted."""

from dataclasses import replace

import pytest

import tiny
from tuwen.bench.bench import QUICK, TORCH, Effort, Request, measure, rates
from tuwen.bench.operations import counted
from tuwen.bench.targets import Contender, Wanted, contender, plans
from tuwen.bench.workloads import Material, captions, photo
from tuwen.errors import InvalidInput, RejectedImages, RuntimeUnavailable

EFFORT = Effort(seconds=0, least=3, most=3)
ALL = Wanted((), (), "cpu", 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny.write_bundle(tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture(scope="module")
def contenders(bundle) -> list[Contender]:
    return [contender(bundle, *found, None) for found in plans(bundle, ALL)]


def test_every_runtime_takes_part_in_every_precision_that_it_has(bundle) -> None:
    names = [(plan.runtime, precision) for precision, plan in plans(bundle, ALL)]
    assert {("onnxruntime", "fp32"), ("openvino", "fp32")} <= set(names)
    assert "int8" not in {precision for _, precision in names}, "the bundle has no such files"
    (only,) = plans(bundle, replace(ALL, runtimes=("openvino",), precisions=("fp32",)))
    assert (only[0], only[1].runtime) == ("fp32", "openvino")


def test_what_is_named_and_not_here_is_an_error(bundle) -> None:
    with pytest.raises(RuntimeUnavailable):
        list(plans(bundle, replace(ALL, precisions=("int8",))))
    with pytest.raises(InvalidInput):
        list(plans(bundle, replace(ALL, runtimes=("ort",))))


def test_each_case_has_a_row_for_each_contender(bundle, contenders) -> None:
    request = Request(("image", "text", "five-fifty"), (1, 3), EFFORT, Material([photo(0)]))
    cases = list(measure(request, contenders, counted(bundle)))
    assert [(rows[0].part, rows[0].batch) for rows in cases] == [
        *(("image", 1), ("image", 3), ("text", 1), ("text", 3), ("five-fifty", 5))
    ]
    for rows in cases:
        assert [row.runtime for row in rows] == [one.runtime for one in contenders]
        assert all(row.times_torch is None for row in rows)
        assert all(len(row.model.seconds) == 3 or row.batch == 1 for row in rows)
    job = cases[-1][0]
    assert job.model.median > job.prepare.median, "the job is timed as a whole"
    assert job.per_second == pytest.approx(1 / job.model.median)


def test_operations_are_those_of_the_inputs_own_lengths(bundle, contenders) -> None:
    count = counted(bundle)
    one = 2 * (3 * tiny.SIZE**2 * tiny.WIDTH + tiny.WIDTH * tiny.DIM)
    assert count("vision", [7]) == 7 * one
    assert count("text", [3, 9]) == 2 * 2 * tiny.WIDTH * tiny.DIM, "its one product does not depend on the length"
    (rows,) = measure(Request(("image",), (2,), EFFORT, Material([photo(0)])), contenders, count)
    assert rows[0].ceiling({"fp32": 1e9}) == pytest.approx(2 * one / rows[0].model.median / 1e9)
    assert rows[0].ceiling({"bf16": 1e9}) is None


def test_ratios_are_to_torch_in_the_same_rounds(bundle, contenders) -> None:
    slow = replace(contenders[0], runtime=TORCH, images=lambda pixels: _slowly(contenders[0], pixels))
    (rows,) = measure(Request(("image",), (2,), EFFORT, Material([photo(0)])), [*contenders, slow], counted(bundle))
    ratios = [row.times_torch for row in rows]
    assert ratios[-1] == 1
    assert all(ratio > 2 for ratio in ratios[:-1])
    assert [row.times_torch_cut for row in rows] == [None] * len(rows)


def _slowly(ours: Contender, pixels):
    import time

    time.sleep(0.2)
    return ours.images(pixels)


def test_rates_are_of_the_precisions_that_the_processor_has() -> None:
    found = rates(["fp32", "no such"], 1, replace(QUICK, seconds=0, least=1))
    assert list(found) == ["fp32"]
    assert found["fp32"] > 1e9


def test_pictures_that_cannot_be_read_are_told(contenders) -> None:
    with pytest.raises(RejectedImages, match="picture 1"):
        contenders[0].to_pixels([photo(0), b"no picture"])


def test_contenders_agree(contenders) -> None:
    vectors = [one.texts(one.to_tokens(captions(9, 0))) for one in contenders]
    assert all(abs(vectors[0] - other).max() < 0.01 for other in vectors[1:])
