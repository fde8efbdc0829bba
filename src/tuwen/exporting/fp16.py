"""Store the weights of a graph in fp16 and back, and find the nodes whose results fp16 cannot hold."""

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from tuwen.exporting.graph import Feeds, Graph, open_model

FP16_SAFE = 65504 / 2
"""half of the largest number in fp16: other inputs may give larger results than the samples do"""
_MASK = -1e30
"""lower values are masks, for which minus infinity does as well"""


def overflowing(graph: Graph, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The nodes whose results exceed `FP16_SAFE` on some of the inputs, with the largest result of each."""
    model = graph.model.clone()
    made = {
        str(value.name): node
        for node in model.graph
        for value in node.outputs
        if value.dtype == onnx_ir.DataType.FLOAT and node.op_type != "Constant"
    }
    model.graph.outputs[:] = [value for node in made.values() for value in node.outputs if value.name in made]
    session, names = open_model(model), list(made)
    largest: dict[str, float] = {}
    for feed in feeds:
        for name, values in zip(names, session.run(names, dict(feed)), strict=True):
            node = str(made[name].name)
            largest[node] = max(largest.get(node, 0.0), _largest(values))
    return {name: value for name, value in largest.items() if value > FP16_SAFE}


def _largest(values: NDArray[np.float32]) -> float:
    low = float(values.min(initial=0.0))
    if low <= _MASK:
        low = float(values.min(initial=0.0, where=values > _MASK))
    return max(-low, float(values.max(initial=0.0)))


SMALLEST = 4096
"""tensors with fewer values (biases, norms, scales) stay fp32: halving them saves nothing"""
TOLERANCE = 1e-3
"""The largest error of a tensor relative to its norm: twice what rounding to fp16's 11 bits costs at worst. Tensors
that overflow or vanish in fp16 lose more, and stay fp32."""


def half_weights(graph: Graph) -> Graph:
    """The same graph with its weights stored in fp16: half the size, computed in fp32.

    Each weight is followed by a cast to fp32, which runtimes fold when they load the graph, or keep if the device
    computes in fp16. The rows of a table (token embeddings) are cast after they are looked up.
    """
    model = graph.model.clone()
    for weight in list(model.graph.initializers.values()):
        halved = _halved(weight)
        if halved is not None:
            _replace(model.graph, weight, halved)
    return Graph(model, graph.nodes_before, model.graph.num_nodes())


def full_weights(graph: Graph) -> Graph:
    """The same graph with every fp16 weight stored in fp32 and no casts: the reverse of `half_weights`."""
    model = graph.model.clone()
    for weight in list(model.graph.initializers.values()):
        if weight.dtype == onnx_ir.DataType.FLOAT16 and weight.const_value is not None:
            full = weight.const_value.numpy().astype(np.float32)
            weight.const_value = onnx_ir.tensor(full, name=weight.name)
            weight.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)  # a new object: clones share their types
            for use in list(weight.uses()):
                _uncast(use.node)
    RemoveUnusedNodesPass()(model)
    return Graph(model, graph.nodes_before, model.graph.num_nodes())


def _uncast(node: onnx_ir.Node) -> None:
    """Remove the cast of a weight, or of the rows that were looked up in it."""
    if node.op_type == "Cast" and node.inputs[0] is not None:
        node.outputs[0].replace_all_uses_with(node.inputs[0], replace_graph_outputs=True)
    elif node.op_type == "Gather":
        node.outputs[0].type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        for use in list(node.outputs[0].uses()):
            _uncast(use.node)


def kept_in_fp32(graph: Graph) -> list[str]:
    """The large weights that `half_weights` leaves in fp32, because fp16 cannot hold them."""
    large = (weight for weight in graph.model.graph.initializers.values() if _is_large(weight))
    return [str(weight.name) for weight in large if _halved(weight) is None]


def _is_large(weight: onnx_ir.Value) -> bool:
    tensor = weight.const_value
    return tensor is not None and tensor.dtype == onnx_ir.DataType.FLOAT and tensor.size >= SMALLEST


def _halved(weight: onnx_ir.Value) -> onnx_ir.Value | None:
    """The weight in fp16; None if it is small or would lose more than `TOLERANCE`."""
    if not _is_large(weight) or weight.const_value is None:
        return None
    full = weight.const_value.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        half = full.astype(np.float16)
        error = np.linalg.norm(half.astype(np.float32) - full)
    if not error <= TOLERANCE * np.linalg.norm(full):  # also true of NaN, where infinities meet
        return None
    name = f"{weight.name}_fp16"
    tensor = onnx_ir.tensor(half, name=name)
    return onnx_ir.Value(name=name, const_value=tensor, shape=weight.shape, type=onnx_ir.TensorType(tensor.dtype))


def _replace(graph: onnx_ir.Graph, weight: onnx_ir.Value, halved: onnx_ir.Value) -> None:
    graph.register_initializer(halved)
    uses = list(weight.uses())
    if all(use.node.op_type == "Gather" and use.idx == 0 for use in uses):
        for use in uses:
            _cast_result(graph, use.node, halved)
    else:
        cast = _cast(halved, f"{weight.name}_fp32", weight.shape)
        graph.insert_before(graph[0], cast)
        weight.replace_all_uses_with(cast.outputs[0])
    del graph.initializers[str(weight.name)]


def _cast_result(graph: onnx_ir.Graph, gather: onnx_ir.Node, halved: onnx_ir.Value) -> None:
    """Look rows up in the fp16 table, and cast them."""
    found = gather.outputs[0]
    cast = _cast(found, f"{found.name}_fp32", found.shape)
    found.replace_all_uses_with(cast.outputs[0])
    cast.replace_input_with(0, found)
    found.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT16)
    gather.replace_input_with(0, halved)
    graph.insert_after(gather, cast)


def _cast(value: onnx_ir.Value, name: str, shape: onnx_ir.Shape | None) -> onnx_ir.Node:
    output = onnx_ir.Value(name=name, shape=shape, type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT))
    return onnx_ir.node("Cast", inputs=[value], attributes={"to": onnx_ir.DataType.FLOAT}, outputs=[output])
