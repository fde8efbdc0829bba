from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import tiny
from runtime.quantised import dynamic_int8
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.manifest import Precision, Report
from tuwen.errors import InvalidInput, RuntimeUnavailable
from tuwen.runtime import selection as module
from tuwen.runtime.machine import Engine, assumed_cpu_features, usable_cores
from tuwen.runtime.selection import Choice, Plan, make_plan, open_session, possible_plans

pytestmark = pytest.mark.precision


def bundle_of(tiny_bundle: Path, *precisions: Precision) -> Bundle:
    """The tiny bundle, as if it had these files."""
    bundle = read_bundle(tiny_bundle)
    graphs = {(tower, precision): path for precision in precisions for (tower, _), path in bundle.graphs.items()}
    return Bundle(bundle.folder, bundle.manifest, graphs, bundle.tokenizer)


@pytest.mark.parametrize(
    ("precisions", "choice", "expected"),
    [
        (("fp32",), Choice(), ("openvino", "fp32", "fp32")),
        (("fp32", "fp16", "int8"), Choice(), ("openvino", "fp32", "fp32")),
        (("fp16",), Choice(), ("openvino", "fp16", "fp32")),
        (("int8",), Choice(), ("openvino", "int8", "int8")),
        (("fp32", "int8"), Choice(precision="int8"), ("openvino", "int8", "int8")),
        (("fp32", "fp16"), Choice(precision="fp32"), ("openvino", "fp32", "fp32")),
        (("fp16", "int8"), Choice(precision="fp32"), ("openvino", "fp16", "fp32")),
        (("fp32", "fp16"), Choice(runtime="onnxruntime"), ("onnxruntime", "fp32", "fp32")),
        (("fp32", "fp16"), Choice(runtime="onnxruntime", precision="fp16"), ("onnxruntime", "fp16", "fp32")),
        (("int8",), Choice(runtime="onnxruntime"), ("onnxruntime", "int8", "int8")),
        (("fp32",), Choice(device="openvino:CPU"), ("openvino", "fp32", "fp32")),
    ],
)
def test_on_the_cpu(
    tiny_bundle: Path, precisions: tuple[Precision, ...], choice: Choice, expected: tuple[str, str, str]
) -> None:
    plan = make_plan(bundle_of(tiny_bundle, *precisions), choice)
    assert (plan.runtime, plan.file, plan.precision) == expected
    assert (plan.device, plan.threads) == ("cpu", usable_cores())


def test_threads_are_those_asked_for(tiny_bundle: Path) -> None:
    assert make_plan(read_bundle(tiny_bundle), Choice(threads=1)).threads == 1


def test_every_way_to_compute_the_most_exact_and_the_default_runtime_first(tiny_bundle: Path) -> None:
    with assumed_cpu_features("avx2", "avx512", "avx512_bf16"):
        plans = possible_plans(bundle_of(tiny_bundle, "fp32", "fp16", "int8"), Choice(device="cpu", threads=1))
    ways = [(plan.runtime, plan.file, plan.precision) for plan in plans]
    on_both = [("openvino", "fp32", "fp32"), ("onnxruntime", "fp32", "fp32")]
    assert ways[:2] == on_both
    assert ways[-2:] == [("openvino", "int8", "int8"), ("onnxruntime", "int8", "int8")]
    assert ("openvino", "fp32", "bf16") in ways
    assert {(plan.device, plan.threads) for plan in plans} == {("cpu", 1)}


def test_fast_is_int8_only_where_int8_passed_verification(tiny_bundle: Path) -> None:
    bundle = bundle_of(tiny_bundle, "fp32", "int8")
    assert make_plan(bundle, Choice(precision="fast")).precision == "fp32"
    for passed in (False, True):
        verify = {"int8": Report(passed=passed, checks=())}
        seen = replace(bundle, manifest=bundle.manifest.model_copy(update={"verify": verify}))
        assert make_plan(seen, Choice(precision="fast")).precision == ("int8" if passed else "fp32")
        assert make_plan(seen, Choice()).precision == "fp32"


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine with an NVIDIA GPU and its build of ONNX Runtime says of itself."""
    monkeypatch.setattr(module, "accelerators", lambda: ("nvidia",))
    monkeypatch.setattr(module, "onnxruntime_here", lambda: Engine("onnxruntime", "1.31.1", ("cpu", "cuda"), ""))


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("precisions", "choice", "expected"),
    [
        (("fp32", "fp16"), Choice(), ("onnxruntime", "cuda:0", "fp16", "fp16")),
        (("fp32",), Choice(), ("onnxruntime", "cuda:0", "fp32", "fp32")),
        (("fp32", "fp16"), Choice(device="cuda:1", precision="fp32"), ("onnxruntime", "cuda:1", "fp32", "fp32")),
        (("fp32", "fp16"), Choice(device="cpu"), ("openvino", "cpu", "fp32", "fp32")),
        (("fp32", "fp16"), Choice(runtime="openvino"), ("openvino", "cpu", "fp32", "fp32")),
    ],
)
def test_where_there_is_a_gpu(
    tiny_bundle: Path,
    precisions: tuple[Precision, ...],
    choice: Choice,
    expected: tuple[str, str, str, str],
) -> None:
    plan = make_plan(bundle_of(tiny_bundle, *precisions), choice)
    assert (plan.runtime, plan.device, plan.file, plan.precision) == expected


def test_a_gpu_without_its_build_of_onnxruntime_is_not_used(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "accelerators", lambda: ("nvidia",))
    assert make_plan(read_bundle(tiny_bundle), Choice()).device == "cpu"


def test_without_openvino_onnxruntime_computes_on_the_cpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise RuntimeUnavailable("not installed")

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert make_plan(read_bundle(tiny_bundle), Choice()).runtime == "onnxruntime"
    monkeypatch.setattr(module, "import_openvino", absent)
    with pytest.raises(RuntimeUnavailable):
        make_plan(read_bundle(tiny_bundle), Choice(runtime="openvino"))


@pytest.mark.parametrize(
    "choice",
    [
        Choice(device="cann:0"),
        Choice(device="rocm"),
        Choice(device="openvino:NPU"),
        Choice(device="openvino:CPU", runtime="onnxruntime"),
        Choice(device="cann", runtime="openvino"),
    ],
)
def test_a_device_that_is_not_available_is_an_error(tiny_bundle: Path, choice: Choice) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        make_plan(read_bundle(tiny_bundle), choice)
    assert caught.value.value == choice.device


def test_builds_that_overwrite_each_other_are_explained(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "conflict", lambda: "onnxruntime and onnxruntime-gpu are installed together")
    with pytest.raises(RuntimeUnavailable) as caught:
        make_plan(read_bundle(tiny_bundle), Choice(device="cann"))
    assert caught.value.hint == module.conflict()


@pytest.mark.parametrize(
    ("precisions", "wanted"),
    [(("fp32", "fp16"), "int8"), (("int8",), "fp32"), (("int8",), "bf16"), (("fp32",), "int8")],
)
def test_a_precision_that_the_bundle_lacks_is_an_error(
    tiny_bundle: Path, precisions: tuple[Precision, ...], wanted: str
) -> None:
    bundle = bundle_of(tiny_bundle, *precisions)
    with assumed_cpu_features("avx512", "avx512_bf16"), pytest.raises(RuntimeUnavailable) as caught:
        make_plan(bundle, Choice(precision=wanted))
    assert (caught.value.value, caught.value.where) == (wanted, bundle.folder)
    assert all(precision in caught.value.hint for precision in precisions)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_bf16_on_a_cpu_without_it_is_an_error(tiny_bundle: Path, runtime: str) -> None:
    with assumed_cpu_features("avx2", "avx512", "vnni"), pytest.raises(RuntimeUnavailable) as caught:
        make_plan(read_bundle(tiny_bundle), Choice(runtime=runtime, precision="bf16"))
    assert (caught.value.value, caught.value.where) == ("bf16", "cpu")


@pytest.mark.parametrize(
    "choice",
    [
        {"runtime": "torch"},
        {"precision": "int4"},
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"device": "openvino:gpu"},
        {"threads": 0},
    ],
)
def test_unknown_choices_are_refused(choice: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Choice(**choice)
    assert [(caught.value.where, caught.value.value)] == list(choice.items())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_tower_is_opened_as_planned(tiny_bundle: Path, runtime: str, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    session = open_session(bundle, "vision", Plan(runtime, "cpu", "fp32", "fp32", 1), tmp_path)
    assert (session.runtime, session.device, session.precision) == (runtime, "cpu", "fp32")
    assert session.inputs[0].shape == (None, 3, 8, 8)
    assert (tmp_path / "openvino").exists() == (runtime == "openvino")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_tower_whose_rows_depend_on_each_other_takes_one_at_a_time(runtime: str, tmp_path: Path) -> None:
    vision, text = dynamic_int8()
    graphs: dict[str, onnx.ModelProto] = {
        "onnx/vision_model_int8.onnx": vision,
        "onnx/text_model_int8.onnx": text,
    }
    bundle = tiny.write_bundle(tmp_path / "a", graphs)
    plan = Plan(runtime, "cpu", "int8", "int8", 1)
    assert open_session(bundle, "vision", plan, None).inputs[0].shape == (1, 3, 8, 8)
    assert open_session(bundle, "text", plan, None).inputs[0].shape == (1, None)
