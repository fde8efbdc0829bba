from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.machine import cpu_features
from tuwen.runtime.openvino import OpenVinoSession, native_precisions, openvino_name

PIXELS = {"pixel_values": tiny.numbers(9, 5, 3, tiny.SIZE, tiny.SIZE)}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    onnx.save(tiny.vision_graph(), tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def opened(graph: Path, device: str, precision: str) -> OpenVinoSession:
    return OpenVinoSession(graph, device=device, precision=precision, threads=1)


def test_names_of_devices() -> None:
    assert [openvino_name(device) for device in ("cpu", "openvino:GPU", "openvino:GPU.1")] == [
        "CPU",
        "GPU",
        "GPU.1",
    ]


def test_the_cpu_computes_in_fp32_and_in_bf16_only_with_instructions_for_it() -> None:
    native = native_precisions("cpu")
    assert "fp32" in native
    if cpu_features():
        assert ("bf16" in native) == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_features()))


def test_bf16_is_computed_in_bf16_or_refused(graph: Path) -> None:
    exact = opened(graph, "cpu", "fp32").run(PIXELS)
    if "bf16" not in native_precisions("cpu"):
        with pytest.raises(RuntimeUnavailable, match="openvino computes in f32 on cpu, not in bf16"):
            opened(graph, "cpu", "bf16")
        return
    rounded = opened(graph, "cpu", "bf16").run(PIXELS)
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_a_device_that_is_not_there_is_one_line(graph: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"openvino cannot run .*a\.onnx on openvino:NPU: .") as caught:
        opened(graph, "openvino:NPU", "fp32")
    assert "\n" not in str(caught.value)
