from pathlib import Path

import onnx
import pytest

import tiny
from runtime.quantised import dynamic_int8
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.manifest import Precision
from tuwen.errors import InvalidInput, RuntimeUnavailable
from tuwen.runtime import selection as module
from tuwen.runtime.machine import Engine, usable_cores
from tuwen.runtime.openvino import native_precisions
from tuwen.runtime.selection import Choice, Plan, make_plan, open_session


def bundle_of(tiny_bundle: Path, *precisions: Precision) -> Bundle:
    """The tiny bundle, as if it had these files."""
    bundle = read_bundle(tiny_bundle)
    graphs = {(tower, precision): path for precision in precisions for (tower, _), path in bundle.graphs.items()}
    return Bundle(bundle.folder, bundle.manifest, graphs, bundle.tokenizer)


FASTEST = "bf16" if "bf16" in native_precisions("cpu") else "fp32"


@pytest.mark.parametrize(
    ("precisions", "choice", "expected"),
    [
        (("fp32",), Choice(), ("openvino", "fp32", FASTEST)),
        (("fp32", "fp16", "int8"), Choice(), ("openvino", "fp32", FASTEST)),
        (("fp16",), Choice(), ("openvino", "fp16", FASTEST)),
        (("int8",), Choice(), ("openvino", "int8", "int8")),
        (("fp32", "int8"), Choice(precision="int8"), ("openvino", "int8", "int8")),
        (("fp32", "fp16"), Choice(precision="fp32"), ("openvino", "fp32", "fp32")),
        (("fp16", "int8"), Choice(precision="fp32"), ("openvino", "fp16", "fp32")),
        (("fp32", "fp16"), Choice(runtime="onnxruntime"), ("onnxruntime", "fp32", "fp32")),
        (("fp32", "fp16"), Choice(runtime="onnxruntime", precision="fp16"), ("onnxruntime", "fp16", "fp32")),
        (("int8",), Choice(runtime="onnxruntime"), ("onnxruntime", "int8", "int8")),
        (("fp32",), Choice(device="openvino:CPU"), ("openvino", "fp32", FASTEST)),
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
        (("fp32", "fp16"), Choice(device="cpu"), ("openvino", "cpu", "fp32", FASTEST)),
        (("fp32", "fp16"), Choice(runtime="openvino"), ("openvino", "cpu", "fp32", FASTEST)),
    ],
)
def test_where_there_is_a_gpu(
    tiny_bundle: Path, precisions: tuple[Precision, ...], choice: Choice, expected: tuple[str, str, str, str]
) -> None:
    plan = make_plan(bundle_of(tiny_bundle, *precisions), choice)
    assert (plan.runtime, plan.device, plan.file, plan.precision) == expected


def test_a_gpu_without_its_build_of_onnxruntime_is_not_used(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "accelerators", lambda: ("nvidia",))
    assert make_plan(read_bundle(tiny_bundle), Choice()).device == "cpu"


def test_without_openvino_onnxruntime_computes_on_the_cpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise RuntimeUnavailable("not installed")

    monkeypatch.setattr(module, "import_openvino", absent)
    assert make_plan(read_bundle(tiny_bundle), Choice()).runtime == "onnxruntime"
    monkeypatch.setattr("tuwen.runtime.openvino.import_openvino", absent)
    with pytest.raises(RuntimeUnavailable, match="not installed"):
        make_plan(read_bundle(tiny_bundle), Choice(runtime="openvino"))


@pytest.mark.parametrize(
    ("choice", "asked"),
    [
        (Choice(device="cann:0"), "cann:0 is not to be had"),
        (Choice(device="rocm"), "rocm is not to be had"),
        (Choice(device="openvino:NPU"), "openvino:NPU is not to be had"),
        (Choice(device="openvino:CPU", runtime="onnxruntime"), "openvino:CPU by onnxruntime is not to be had"),
        (Choice(device="cann", runtime="openvino"), "cann by openvino is not to be had"),
    ],
)
def test_a_device_that_is_not_here_is_an_error_that_lists_what_is(
    tiny_bundle: Path, choice: Choice, asked: str
) -> None:
    with pytest.raises(
        RuntimeUnavailable,
        match=rf"{asked} on this machine, which has onnxruntime [\d.]+: cpu.*; openvino [\d.]+: ",
    ):
        make_plan(read_bundle(tiny_bundle), choice)


def test_builds_that_overwrite_each_other_are_explained(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "conflict", lambda: "onnxruntime and onnxruntime-gpu are installed together")
    with pytest.raises(RuntimeUnavailable, match=r"cann is not .* onnxruntime-gpu are installed together"):
        make_plan(read_bundle(tiny_bundle), Choice(device="cann"))


def test_a_precision_that_the_bundle_has_not_is_an_error_that_lists_what_it_has(tiny_bundle: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="has no file for int8 on openvino cpu; it has fp32, fp16: ask"):
        make_plan(bundle_of(tiny_bundle, "fp32", "fp16"), Choice(precision="int8"))
    with pytest.raises(RuntimeUnavailable, match="has no file for fp32 on openvino cpu; it has int8"):
        make_plan(bundle_of(tiny_bundle, "int8"), Choice(precision="fp32"))


def test_bf16_where_nothing_computes_in_it_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="onnxruntime does not compute in bf16 on cpu here, but in fp32, int8"):
        make_plan(read_bundle(tiny_bundle), Choice(runtime="onnxruntime", precision="bf16"))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"runtime": "torch"}, "no runtime 'torch': choose auto, onnxruntime, openvino"),
        ({"precision": "int4"}, "no precision 'int4': choose auto, fp32"),
        ({"device": "gpu"}, "no device 'gpu': choose auto, cpu, cuda"),
        ({"device": "cuda:x"}, "no device 'cuda:x'"),
        ({"device": "openvino:gpu"}, "no device 'openvino:gpu'"),
        ({"threads": 0}, "threads is 0; it must be at least 1"),
    ],
)
def test_words_that_mean_nothing_are_refused(choice: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Choice(**choice)


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
