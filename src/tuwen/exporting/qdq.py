"""A graph whose activations pass through QuantizeLinear and DequantizeLinear: where, at what cost, undone again.

Knows graphs alone. Does not know who put the pairs there, nor what cosine is good enough.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from tuwen.exporting.graph import Graph, save
from tuwen.runtime.engines import import_onnxruntime

Feeds: TypeAlias = Mapping[str, NDArray[Any]]
"""What one run of a graph is given, by input name."""


@dataclass(frozen=True, slots=True)
class Site:
    """One activation that is rounded to 8 bits.

    Attributes:
        name: of the first node that computes with it.
        quantize: the node that rounds it.
        dequantize: the nodes that bring it back.
    """

    name: str
    quantize: onnx_ir.Node
    dequantize: tuple[onnx_ir.Node, ...]


def sites(model: onnx_ir.Model) -> list[Site]:
    """Every rounded activation, in the graph's order. Weights, which are constants, are none."""
    found = []
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            back = tuple(use.node for use in node.outputs[0].uses())
            users = [use.node for after in back for use in after.outputs[0].uses()]
            found.append(Site(str(users[0].name if users else node.name), node, back))
    return found


def products_of_two(model: onnx_ir.Model) -> list[str]:
    """The sites of products that have two rounded activations as they are, by name."""
    found = sites(model)
    back = {value for site in found for node in site.dequantize for value in node.outputs}
    users = {use.node for value in back for use in value.uses()}
    return [str(node.name) for node in users if node.op_type == "MatMul" and back.issuperset(node.inputs)]


def undo(model: onnx_ir.Model, names: Collection[str]) -> None:
    """Let the named activations pass unrounded, in place; what computes with them then does so in fp32."""
    for site in sites(model):
        if site.name in names:
            for node in site.dequantize:
                node.outputs[0].replace_all_uses_with(_input(site.quantize), replace_graph_outputs=True)
                model.graph.remove(node, safe=True)
            model.graph.remove(site.quantize, safe=True)


def noise(model: onnx_ir.Model, feeds: Sequence[Feeds]) -> dict[str, float]:
    """What rounding costs at each site: the squared error relative to the squared signal, by name.

    Measured behind the product with its weights, where one follows: an error in a channel that nothing
    listens to costs nothing. Each site is looked at with all others unrounded.
    """
    found = sites(model)
    plain = model.clone()
    undo(plain, [site.name for site in found])
    values = {value.name: value for node in plain.graph for value in node.outputs}
    values |= {value.name: value for value in plain.graph.inputs}
    plain.graph.outputs[:] = list(dict.fromkeys(values[_input(site.quantize).name] for site in found))
    wanted = [str(value.name) for value in plain.graph.outputs]
    session, sums = open_model(plain), np.zeros((len(found), 2))
    for feed in feeds:
        seen = dict(zip(wanted, session.run(wanted, dict(feed)), strict=True))
        for row, site in enumerate(found):
            sums[row] += _error_and_signal(site, seen[str(_input(site.quantize).name)])
    return {site.name: float(error / max(signal, 1e-30)) for site, (error, signal) in zip(found, sums, strict=True)}


def open_model(model: onnx_ir.Model) -> Any:  # noqa: ANN401
    """The graph in ONNX Runtime, all cores, computed as it is written: no 8-bit kernels with limits."""
    package = import_onnxruntime()
    options = package.SessionOptions()
    options.graph_optimization_level = package.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="tuwen-open-") as folder:  # no protobuf holds 2 GB
        path = Path(folder) / "tower.onnx"
        save(Graph(model, 0, 0), path)
        return package.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _error_and_signal(site: Site, values: NDArray[np.float32]) -> tuple[float, float]:
    scale, zero = (_along_axis(site.quantize, value, values.ndim) for value in site.quantize.inputs[1:3])
    bounds = np.iinfo(zero.dtype)
    rounded = (np.rint(values / scale) + zero).clip(bounds.min, bounds.max)
    error = (rounded - zero) * scale - values
    weights = _weights(site)
    if weights is not None:
        error, values = error @ weights, values @ weights
    return float(np.square(error, dtype=np.float64).sum()), float(np.square(values, dtype=np.float64).sum())


def _along_axis(quantize: onnx_ir.Node, value: onnx_ir.Value | None, rank: int) -> NDArray[Any]:
    """A scale or zero point, of the tensor or (before depthwise convolutions) of each channel, to broadcast."""
    constant = _constant(value)
    if constant.size == 1:
        return constant.reshape(())
    axis = quantize.attributes.get_int("axis", 1)
    return constant.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _weights(site: Site) -> NDArray[np.float32] | None:
    """The constant matrix that the site is multiplied by, if it is."""
    for node in site.dequantize:
        for use in node.outputs[0].uses():
            if use.node.op_type == "MatMul" and use.idx == 0:
                made = use.node.inputs[1].producer() if use.node.inputs[1] else None
                if made is not None and made.op_type == "DequantizeLinear" and _input(made).const_value is not None:
                    stored, scale, zero = (_constant(value) for value in made.inputs[:3])
                    weights: NDArray[np.float32] = (stored.astype(np.float32) - zero) * scale
                    return weights
    return None


def _input(node: onnx_ir.Node) -> onnx_ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _constant(value: onnx_ir.Value | None) -> NDArray[Any]:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()
