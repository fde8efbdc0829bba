import contextlib
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import tiny
from tuwen.bundle.graph import Graph, Value, read_graph
from tuwen.errors import BundleInvalid


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (tiny.vision_graph(), [Value("pixel_values", (None, 3, 8, 8))]),
        (tiny.vision_graph(batch=1, name="image"), [Value("image", (1, 3, 8, 8))]),
        (tiny.text_graph(batch=1, length=24), [Value("input_ids", (1, 24))]),
        (tiny.text_graph(masked=True), [Value("input_ids", (None, None)), Value("attention_mask", (None, None))]),
    ],
)
def test_inputs_outputs_and_operators_are_those_that_onnx_reads(
    model: onnx.ModelProto, inputs: list[Value], tmp_path: Path
) -> None:
    graph = read_graph(saved(model, tmp_path / "a.onnx"))
    assert list(graph.inputs) == inputs
    assert graph.outputs == (Value(model.graph.output[0].name, (None, tiny.DIM)),)
    assert graph.operators == {node.op_type for node in model.graph.node}
    assert graph.weight_files == ()
    assert not graph.depends_on_batch


def test_weights_beside_the_graph_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(tiny.vision_graph(), path, save_as_external_data=True, location="a.onnx_data", size_threshold=0)
    assert read_graph(path).weight_files == ("a.onnx_data",)


def test_weights_among_the_inputs_are_not_inputs(tmp_path: Path) -> None:
    model = tiny.vision_graph()
    model.graph.input.append(helper.make_tensor_value_info("first", TensorProto.FLOAT, [3 * 8 * 8, tiny.WIDTH]))
    assert [value.name for value in read_graph(saved(model, tmp_path / "a.onnx")).inputs] == ["pixel_values"]


def test_zero_and_negative_lengths_are_any_length(tmp_path: Path) -> None:
    model = tiny.text_graph()
    for axis, length in zip(model.graph.input[0].type.tensor_type.shape.dim, (0, -1), strict=True):
        axis.dim_value = length
    assert read_graph(saved(model, tmp_path / "a.onnx")).inputs[0].shape == (None, None)


def quantising(name: str = "x", out: str = "y") -> onnx.NodeProto:
    return helper.make_node("DynamicQuantizeLinear", [name], [out, f"{out}_scale", f"{out}_zero"])


def with_nodes(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    body = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])
    return helper.make_model(
        body, functions=functions, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    )


def test_dynamic_quantisation_is_seen_in_the_graph_in_branches_and_in_functions(tmp_path: Path) -> None:
    plain = helper.make_node("Identity", ["x"], ["z"])
    branch = helper.make_graph([quantising()], "b", [], [helper.make_tensor_value_info("y", TensorProto.UINT8, None)])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    function = helper.make_function("mine", "Quantise", ["x"], ["y"], [quantising()], [helper.make_opsetid("", 18)])
    call = helper.make_node("Quantise", ["x"], ["y"], domain="mine")
    for nodes, functions in (([quantising(), plain], []), ([choice, plain], []), ([call, plain], [function])):
        assert read_graph(saved(with_nodes(nodes, functions), tmp_path / "a.onnx")).depends_on_batch
    assert not read_graph(saved(with_nodes([plain], []), tmp_path / "a.onnx")).depends_on_batch


def test_a_file_that_is_absent_empty_or_no_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "tensor").write_bytes(numpy_helper.from_array(np.zeros(3)).SerializeToString())
    for name in ("absent", "empty", "text", "tensor"):
        with pytest.raises(BundleInvalid) as raised:
            read_graph(tmp_path / name)
        assert raised.value.where == tmp_path / name


WHOLE = tiny.text_graph().SerializeToString()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE)), st.integers(0, 255), st.booleans())
def test_damaged_files_are_refused_or_read_but_never_crash(place: int, value: int, cut: bool) -> None:
    damaged = WHOLE[:place] if cut else WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.onnx"
        path.write_bytes(damaged)
        with contextlib.suppress(BundleInvalid):
            assert isinstance(read_graph(path), Graph)
