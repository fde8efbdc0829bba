"""The seam: everything above it works with any runtime, everything below is one runtime's own business.

A session holds one tower. It knows nothing of pictures, texts, batches that are too large, or normalisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Port:
    """One input of a graph.

    Attributes:
        name: as the graph calls it.
        shape: each axis' fixed length, or None where it is dynamic.
        dtype: what it takes; the encoder casts to it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Session(Protocol):
    """One tower, ready to run.

    Attributes:
        runtime: `onnxruntime`, `openvino` or `torch`.
        device: where it really runs, e.g. `cpu`, `cuda:0`.
        precision: what it really computes in, e.g. `fp32`, `bf16`, `int8`.
        inputs: the graph's inputs.
    """

    runtime: str
    device: str
    precision: str
    inputs: tuple[Port, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute the embedding output, (n, dim) float32, for feeds that fit `inputs`."""
        ...
