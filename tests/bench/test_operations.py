"""Matrix products: counted in graphs that are small enough to count by hand, and run."""

import onnx
import pytest

import tiny
from tuwen.bench.operations import graph_flops, matrix_products, measurable


def test_products_of_a_graph_are_counted(tmp_path) -> None:
    onnx.save(tiny.vision_graph(), tmp_path / "vision.onnx")
    one = 2 * (3 * tiny.SIZE**2 * tiny.WIDTH + tiny.WIDTH * tiny.DIM)
    count = graph_flops(tmp_path / "vision.onnx")
    assert [count({"pixel_values": (rows, 3, tiny.SIZE, tiny.SIZE)}) for rows in (1, 5, 2)] == [
        one,
        5 * one,
        2 * one,
    ]


def test_convolutions_are_counted(tmp_path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(tiny.numbers(0, 4, 3, 2, 2), "weight")
    node = helper.make_node("Conv", ["pixels", "weight"], ["out"], strides=[2, 2])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4, 4, 4])
    graph = helper.make_graph([node], "conv", [pixels], [out], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "c.onnx")
    assert graph_flops(tmp_path / "c.onnx")({"pixels": (1, 3, 8, 8)}) == 2 * (4 * 4 * 4) * (3 * 2 * 2)


@pytest.mark.parametrize("precision", measurable())
def test_products_alone_run_in_what_the_processor_has(precision) -> None:
    (output,) = matrix_products(precision, 1)().values()
    assert output.shape == (400, 768)
    assert output.any()
