"""One tower's files in a bundle, one a precision. Knows graphs and where they stand; no towers, no verification."""

import logging
from collections.abc import Sequence
from pathlib import Path

from tuwen.bundle import layout
from tuwen.bundle.manifest import FP16_OVERFLOWS, PRECISIONS, Precision
from tuwen.errors import InvalidInput
from tuwen.export.activations import overflowing
from tuwen.export.calibration import Calibration
from tuwen.export.graph import Graph, save
from tuwen.export.int8 import quantized
from tuwen.export.precision import half_weights, kept_in_fp32

log = logging.getLogger(__name__)

LOOKED_AT = 4
"""How many runs tell how large activations get."""


def check_precisions(precisions: Sequence[str]) -> None:
    """Refuse what no file can be written at.

    Raises:
        InvalidInput: one of them is unknown, or there is none.
    """
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown or not precisions:
        raise InvalidInput(
            f"cannot export at precision {', '.join(unknown) or 'none'}; there are fp32, fp16 and int8"
        )


def write_tower(
    tower: layout.Tower,
    graph: Graph,
    folder: Path,
    precisions: Sequence[Precision],
    inputs: Calibration,
) -> dict[str, str | int | float | bool]:
    """Write one tower at each precision.

    Args:
        tower: which.
        graph: it, in fp32; its `nodes_before` is 0 where it comes from a file.
        folder: the bundle that is being written.
        precisions: which files.
        inputs: what int8 is calibrated and checked on, and the size of activations is looked at on.

    Returns:
        Facts for the manifest: how far it was simplified, what stayed fp32, what fp16 could not compute, int8's
        whole recipe.
    """
    facts: dict[str, str | int | float | bool] = {}
    if graph.nodes_before:
        log.info("%s tower: %d nodes, %d after simplification", tower, graph.nodes_before, graph.nodes_after)
        facts = {f"{tower}_nodes_before": graph.nodes_before, f"{tower}_nodes_after": graph.nodes_after}
    large = overflowing(graph, inputs.checked[:LOOKED_AT])
    if large:
        log.warning("%s tower: too large for computing in fp16: %s", tower, ", ".join(large))
        facts[f"{tower}{FP16_OVERFLOWS}"] = ", ".join(large)
    if "fp32" in precisions:
        save(graph, folder / layout.graph(tower, "fp32"))
    if "fp16" in precisions:
        save(half_weights(graph), folder / layout.graph(tower, "fp16"))
        facts[f"{tower}_fp16_kept_fp32"] = len(kept_in_fp32(graph))
    if "int8" in precisions:
        log.info("%s tower: to int8, on %d inputs", tower, len(inputs.measured))
        small = quantized(graph, inputs.measured, inputs.checked)
        save(small.graph, folder / layout.graph(tower, "int8"))
        facts |= {f"{tower}_int8_{name}": value for name, value in small.recipe().items()}
    return facts
