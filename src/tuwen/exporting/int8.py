"""A tower at int8: static QDQ by NNCF with SmoothQuant, and activations left in fp32 until it is good enough.

Knows one graph at a time. Does not know folders, nor what a bundle is verified on.
"""

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from tuwen.errors import require
from tuwen.exporting.graph import Graph
from tuwen.exporting.qdq import Feeds, noise, open_model, products_of_two, sites, undo
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

    Queries times keys is left alone: OpenVINO 2026.4 cannot load such a product of XLM-R's towers (docs/log.md),
    and it is about a hundredth of the work. The weights lie beside the graph meanwhile: NNCF copies and
    serialises what it works on a dozen times.
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
        onnx_ir.save(model, path, external_data="weights")
        done = nncf.quantize(
            onnx.load(path, load_external_data=False),
            nncf.Dataset([dict(feed) for feed in calibration]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            advanced_parameters=parameters,
        )
        ours = _as_ours(onnx_ir.from_proto(done), model)
    undo(ours, products_of_two(ours))
    RemoveUnusedNodesPass()(ours)
    return ours


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
