from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import openvino_name
from tuwen.runtime.machine import native_precisions
from tuwen.runtime.openvino import OpenVinoSession

pytestmark = pytest.mark.precision

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


def test_bf16_is_computed_in_bf16_or_refused(graph: Path) -> None:
    exact = opened(graph, "cpu", "fp32").run(PIXELS)
    try:
        session = opened(graph, "cpu", "bf16")
    except RuntimeUnavailable:
        assert "bf16" not in native_precisions("cpu")
        return
    rounded = session.run(PIXELS)
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_what_is_not_quantised_in_an_int8_graph_is_computed_in_fp32(graph: Path) -> None:
    assert np.array_equal(opened(graph, "cpu", "int8").run(PIXELS), opened(graph, "cpu", "fp32").run(PIXELS))


def test_a_device_that_is_not_there_is_one_line(graph: Path) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        opened(graph, "openvino:NPU", "fp32")
    assert caught.value.value == "openvino:NPU"
    assert "\n" not in str(caught.value)
