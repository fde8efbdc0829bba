"""Quantise a tower to int8: static QDQ by NNCF with SmoothQuant.

Activations that lose too much in 8 bits are left in fp32, most costly first, until the tower is close enough to fp32.
"""

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from tuwen.errors import require
from tuwen.exporting.graph import Feeds, Graph, open_model
from tuwen.runtime.engines import import_onnxruntime, import_openvino

log = logging.getLogger(__name__)

ALPHA = 0.6
"""How much of what lies far out SmoothQuant moves from activations to weights (Xiao et al. 2022, eq. 4), 0 to 1."""
GOOD = 0.995
"""At this worst cosine to the fp32 graph no more activations are left unrounded; verification asks for 0.99."""
LOOKED_AT = 4
"""Of how many samples the cost of rounding is measured, activation by activation."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A tower at int8, and how it came to be.

    Attributes:
        graph: the tower: weights in 8 bits a channel, activations in 8 bits a tensor, default domain.
        alpha: SmoothQuant's.
        samples: how many inputs it was calibrated on.
        calibration_sha256: over these inputs.
        kept: the nodes whose activation stayed fp32 (their weights are int8 all the same), the costliest first.
        worst_cosine: to the fp32 graph, on what it was checked on.
    """

    graph: Graph
    alpha: float
    samples: int
    calibration_sha256: str
    kept: tuple[str, ...]
    worst_cosine: float

    def recipe(self) -> dict[str, str | int | float | bool]:
        """All that is needed to make the same file again from the fp32 graph."""
        return {
            "smoothquant_alpha": self.alpha,
            "calibrated_on": self.samples,
            "calibration_sha256": self.calibration_sha256,
            "kept_fp32": ", ".join(self.kept),
            "worst_cosine": self.worst_cosine,
        }


def quantized(
    graph: Graph, calibration: Sequence[Feeds], checked: Sequence[Feeds], *, alpha: float = ALPHA
) -> Quantized:
    """A tower's graph at int8.

    Rounding all activations may cost more than it should; then those at which it costs most are left in fp32, a
    sixteenth of them, then twice as many, and so on, until the worst cosine is `GOOD`.

    Args:
        graph: the tower in fp32.
        calibration: the inputs that ranges are measured on.
        checked: the inputs on which it must be good; such as calibration has not seen, if there are any.
        alpha: see `ALPHA`.

    Raises:
        MissingExtra: NNCF is not installed.
    """
    rounded = _by_nncf(graph.model, calibration, alpha)
    expected = _vectors(graph.model, checked)
    total = len(sites(rounded))
    for kept in _kept(rounded, calibration):
        model = rounded.clone()
        undo(model, kept)
        RemoveUnusedNodesPass()(model)  # the scales of what is undone
        worst = float((_vectors(model, checked) * expected).sum(axis=1).min())
        log.info("int8: %d of %d activations left in fp32, worst cosine %.5f", len(kept), total, worst)
        if worst >= GOOD:
            break
    done = Graph(model, graph.nodes_before, model.graph.num_nodes())
    return Quantized(done, alpha, len(calibration), _sha256(calibration), tuple(kept), worst)


def _kept(rounded: onnx_ir.Model, calibration: Sequence[Feeds]) -> Iterator[list[str]]:
    """Activations to leave in fp32: none, then the costliest sixteenth, twice as many, and so on to all."""
    yield []
    costs = noise(rounded, calibration[:: max(1, len(calibration) // LOOKED_AT)])  # slow, and seldom needed
    ranked = sorted(costs, key=lambda name: -costs[name])
    count = max(1, len(ranked) // 16)
    while count < len(ranked):
        yield ranked[:count]
        count *= 2
    yield ranked


def _vectors(model: onnx_ir.Model, feeds: Sequence[Feeds]) -> NDArray[np.float64]:
    session = open_model(model)
    return np.concatenate([session.run(None, dict(feed))[0] for feed in feeds]).astype(np.float64)


def _sha256(feeds: Sequence[Feeds]) -> str:
    digest = hashlib.sha256()
    for feed in feeds:
        for name, values in sorted(feed.items()):
            digest.update(f"{name}\0{values.dtype}\0{values.shape}\0".encode())
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _by_nncf(model: onnx_ir.Model, calibration: Sequence[Feeds], alpha: float) -> onnx_ir.Model:
    """The inputs of every product with weights rounded, ranges from `calibration`.

    Products of two activations are left alone: OpenVINO 2026.4 cannot load such a product of XLM-R's towers
    (docs/log.md), and it is about a hundredth of the work. The weights lie beside the graph meanwhile: NNCF copies
    and serialises what it works on a dozen times.
    """
    with _quiet(), tempfile.TemporaryDirectory(prefix="tuwen-int8-") as folder:
        nncf = require("nncf", extra="export")
        parameters = nncf.AdvancedQuantizationParameters(
            # Weights in 7 of their 8 bits: without VNNI, a CPU adds pairs of products in 16 bits, which full
            # ones overflow in silence (docs/log.md, 2026-11-21). This costs less than 0.0002 of cosine.
            overflow_fix=nncf.OverflowFix.ENABLE,
            disable_bias_correction=True,  # finds none in these graphs: products and their biases are apart
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=alpha),
            backend_params={"external_data_dir": folder},
        )
        path = Path(folder) / "tower.onnx"
        onnx_ir.save(_turned(model), path, external_data="weights")
        done = nncf.quantize(
            onnx.load(path, load_external_data=False),
            nncf.Dataset([dict(feed) for feed in calibration]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            advanced_parameters=parameters,
        )
        ours = _as_ours(onnx_ir.from_proto(done), model)
    undo(ours, meeting(ours))
    RemoveUnusedNodesPass()(ours)
    return ours


def _turned(model: onnx_ir.Model) -> onnx_ir.Model:
    """A copy whose weights stand as they are multiplied: NNCF finds none behind a Transpose."""
    turned = model.clone()
    for node in list(turned.graph):
        if node.op_type == "Transpose" and _input(node).const_value is not None:
            old = node.outputs[0]
            weights = np.ascontiguousarray(_constant(_input(node)).transpose(node.attributes.get_ints("perm", None)))
            new = onnx_ir.val(f"{old.name}_turned", const_value=onnx_ir.tensor(weights))
            turned.graph.register_initializer(new)
            old.replace_all_uses_with(new)
            turned.graph.remove(node, safe=True)
    return turned


def _as_ours(done: onnx_ir.Model, original: onnx_ir.Model) -> onnx_ir.Model:
    done.producer_name, done.producer_version = "tuwen", None
    done.ir_version = original.ir_version
    RemoveUnusedNodesPass()(done)
    done.metadata_props.clear()
    assert set(done.opset_imports) == {""}
    return done


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF neither sends usage data (`runtime/engines.py` sees to that, first), nor prints its own progress."""
    onnxruntime = import_onnxruntime()
    import_openvino()
    onnxruntime.set_default_logger_severity(3)  # NNCF's sessions are opened with the default
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        yield


@dataclass(frozen=True, slots=True)
class Site:
    """An activation that passes through QuantizeLinear and DequantizeLinear.

    Attributes:
        name: of the first node that computes with it.
        quantize: the node that rounds it.
        dequantize: the nodes that bring it back.
    """

    name: str
    quantize: onnx_ir.Node
    dequantize: tuple[onnx_ir.Node, ...]


def sites(model: onnx_ir.Model) -> list[Site]:
    """Every rounded activation, in the graph's order; weights, which are constants, are not among them."""
    found = []
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            back = tuple(use.node for use in node.outputs[0].uses())
            users = [use.node for after in back for use in after.outputs[0].uses()]
            found.append(Site(str(users[0].name if users else node.name), node, back))
    return found


MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split"})
"""Nodes that move numbers without changing them."""


def meeting(model: onnx_ir.Model) -> list[str]:
    """The names of sites (`Site.name`) whose numbers are multiplied by those of another one in a matrix product."""
    inputs: defaultdict[onnx_ir.Node, dict[int, str]] = defaultdict(dict)
    for site in sites(model):
        for node, place in _computing(site):
            if node.op_type == "MatMul":
                inputs[node][place] = site.name
    return [name for names in inputs.values() if len(names) > 1 for name in names.values()]


def _computing(site: Site) -> Iterator[tuple[onnx_ir.Node, int]]:
    """The nodes that compute with a rounded activation, and which of their inputs it is."""
    values = [node.outputs[0] for node in site.dequantize]
    while values:
        for use in values.pop().uses():
            if use.node.op_type in MOVES and use.idx == 0:
                values.extend(use.node.outputs)
            else:
                yield use.node, use.idx


def undo(model: onnx_ir.Model, names: Collection[str]) -> None:
    """Remove the rounding of the named activations, in place; products with them are then computed in fp32."""
    for site in sites(model):
        if site.name in names:
            for node in site.dequantize:
                node.outputs[0].replace_all_uses_with(_input(site.quantize), replace_graph_outputs=True)
                model.graph.remove(node, safe=True)
            model.graph.remove(site.quantize, safe=True)


def noise(model: onnx_ir.Model, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The cost of rounding at each site: the squared error relative to the squared signal, by name.

    Measured after the product with the weights that follow, if any: an error in a channel with small weights costs
    little. All other activations are left unrounded.
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
