"""How large a tower's numbers get on their way: whether a device that computes in fp16 could hold them.

Knows graphs and inputs. Does not know devices.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from tuwen.export.graph import Graph
from tuwen.export.qdq import Feeds, open_model

FP16_SAFE = 65504 / 2
"""Half of fp16's largest number: other inputs than those looked at get larger ones."""
_MASK = -1e30
"""What lies below is no number on its way but a mask; minus infinity does as well for it."""


def overflowing(graph: Graph, feeds: Sequence[Feeds]) -> dict[str, float]:
    """The nodes whose results exceed `FP16_SAFE` on some of the inputs, with the largest that was seen of each."""
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
