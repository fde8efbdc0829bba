"""The tiny towers in int8, made the two ways there are: ranges by calibration, or found in each batch anew."""

import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tiny
from tuwen.runtime.engines import import_onnxruntime

import_onnxruntime()  # before its quantisation is imported: telemetry off

from onnxruntime import quantization  # noqa: E402

TOWERS = {
    "pixel_values": (tiny.vision_graph, tiny.numbers(8, 16, 3, tiny.SIZE, tiny.SIZE)),
    "input_ids": (tiny.text_graph, np.array([[*range(500, 500 + 10), tiny.END]] * 4)),
}


class Reader(quantization.CalibrationDataReader):
    def __init__(self, name: str, rows: np.ndarray) -> None:
        self._feeds = iter([{name: rows}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


@cache
def static_int8() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Vision and text tower in QDQ form."""
    made = [_quantised(name, static=True) for name in TOWERS]
    assert all("QuantizeLinear" in {node.op_type for node in model.graph.node} for model in made)
    return made[0], made[1]


@cache
def dynamic_int8() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Vision and text tower as `quantize_dynamic` makes them: what is published as `_quantized`."""
    made = [_quantised(name, static=False) for name in TOWERS]
    assert all("DynamicQuantizeLinear" in {node.op_type for node in model.graph.node} for model in made)
    return made[0], made[1]


def _quantised(name: str, *, static: bool) -> onnx.ModelProto:
    build, rows = TOWERS[name]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        onnx.save(build(), source)
        if static:
            quantization.quantize_static(
                source,
                target,
                Reader(name, rows),
                op_types_to_quantize=["MatMul"],
                quant_format=quantization.QuantFormat.QDQ,
            )
        else:
            quantization.quantize_dynamic(source, target)
        return onnx.load(target)
