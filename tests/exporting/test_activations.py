import numpy as np
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tuwen.bundle.manifest import FP16_OVERFLOWS
from tuwen.exporting.fp16 import overflowing
from tuwen.exporting.graph import Graph
from tuwen.runtime.selection import _default


def graph(factor: float) -> Graph:
    """x * factor, masked with the lowest number there is, halved."""
    low = np.finfo(np.float32).min
    constants = {"factor": np.float32(factor), "mask": np.array([0, low], np.float32), "half": np.float32(0.5)}
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["large"], name="enlarge"),
        helper.make_node("Add", ["large", "mask"], ["masked"], name="mask"),
        helper.make_node("Mul", ["masked", "half"], ["y"], name="halve"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    inner = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("large", "masked")]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], initializers, value_info=inner)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return Graph(onnx_ir.from_proto(model), 0, 0)


FEEDS = [{"x": np.ones((1, 2), np.float32)}, {"x": np.full((1, 2), -2, np.float32)}]


def test_what_fp16_cannot_hold_is_named() -> None:
    assert overflowing(graph(20_000), FEEDS) == {"enlarge": 40_000.0, "mask": 40_000.0}


def test_a_mask_is_no_number() -> None:
    assert overflowing(graph(10_000), FEEDS) == {}


@pytest.mark.parametrize(("facts", "precision"), [({}, "fp16"), ({f"vision{FP16_OVERFLOWS}": "enlarge"}, "fp32")])
def test_such_a_model_is_not_computed_in_fp16_by_itself(tiny_bundle, facts, precision) -> None:
    import dataclasses

    bundle = dataclasses.replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"facts": facts}))
    assert _default(bundle, "onnxruntime", "cuda:0", "auto") == precision
