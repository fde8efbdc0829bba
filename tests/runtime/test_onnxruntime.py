from pathlib import Path

import onnx
import pytest

import tiny
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.onnxruntime import OnnxRuntimeSession, _refuse_fallback, devices_of, provider_for

pytestmark = pytest.mark.precision

GPU_BUILD = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_build_is_told_by_its_providers() -> None:
    assert devices_of(GPU_BUILD) == ("cpu", "cuda", "tensorrt")
    assert devices_of(["AzureExecutionProvider", "CPUExecutionProvider"]) == ("cpu",)
    assert devices_of(["CANNExecutionProvider", "CPUExecutionProvider"]) == ("cpu", "cann")


@pytest.mark.parametrize(
    ("device", "precision", "provider", "options"),
    [
        ("cpu", "fp32", "CPUExecutionProvider", {}),
        ("cuda:1", "fp32", "CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"}),
        ("cuda:0", "fp16", "CUDAExecutionProvider", {"device_id": "0"}),
        (
            "tensorrt:0",
            "fp16",
            "TensorrtExecutionProvider",
            {"device_id": "0", "trt_fp16_enable": "True", "trt_int8_enable": "False"},
        ),
    ],
)
def test_a_device_becomes_a_provider_and_its_options(
    device: str, precision: str, provider: str, options: dict[str, str]
) -> None:
    assert provider_for(device, precision, GPU_BUILD) == (provider, options)


def test_rocm_is_whichever_provider_the_build_has() -> None:
    assert provider_for("rocm:0", "fp32", ["ROCMExecutionProvider"])[0] == "ROCMExecutionProvider"
    assert provider_for("rocm:0", "fp32", ["MIGraphXExecutionProvider"])[0] == "MIGraphXExecutionProvider"


def test_a_provider_that_is_not_in_the_build_is_refused(tmp_path: Path) -> None:
    onnx.save(tiny.vision_graph(), tmp_path / "a.onnx")
    with pytest.raises(RuntimeUnavailable) as caught:
        OnnxRuntimeSession(tmp_path / "a.onnx", device="cann:0", precision="fp32", threads=1)
    assert caught.value.value == "cann:0"


def test_a_fallback_to_the_cpu_is_refused() -> None:
    """What onnxruntime-gpu does on a machine without a driver: the provider is listed, and not used."""
    with pytest.raises(RuntimeUnavailable) as caught:
        _refuse_fallback(["CPUExecutionProvider"], "CUDAExecutionProvider", "cuda:0")
    assert caught.value.value == "cuda:0"
    _refuse_fallback(["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider", "cuda:0")
