"""The seam: everything above it works with any runtime, everything below is one runtime's own business.

A session holds one tower. It knows nothing of pictures, texts, batches that are too large, or normalisation.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import BundleInvalid
from tuwen.types import Port

EMBEDDINGS = ("image_embeds", "text_embeds", "pooler_output", "embedding", "sentence_embedding")
"""What exporters call the output that is the embedding, where a graph has several of two axes."""


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


def hold_still(session: Session, context_length: int) -> Session:
    """The session, with shapes that never change: one row at a time, texts at their full length.

    So a device computes that knows no dynamic shapes; the vectors are the same.
    """
    session.inputs = tuple(_held(port, context_length) for port in session.inputs)
    return session


def _held(port: Port, context_length: int) -> Port:
    length = (context_length,) if len(port.shape) == 2 else port.shape[1:]
    return replace(port, shape=(1, *length))


def embedding_output(outputs: Sequence[tuple[str, int | None]], graph: str) -> str:
    """Which of a graph's outputs is the embedding: the one with two axes, or else the one of a known name.

    Args:
        outputs: name and number of axes (None where the graph does not say).
        graph: what to call the graph in an error.

    Raises:
        BundleInvalid: none is, or several could be.
    """
    flat = [name for name, axes in outputs if axes == 2]
    if len(flat) == 1:
        return flat[0]
    known = [name for name in EMBEDDINGS if name in {name for name, axes in outputs if axes in (2, None)}]
    if not known:
        names = ", ".join(name for name, _ in outputs)
        raise BundleInvalid(f"{graph} has no output that is known to be an embedding (it has {names})")
    return known[0]


# ---- What libraries print past Python to standard output


@contextmanager
def no_output() -> Iterator[None]:
    """Within the block, file descriptor 1 leads nowhere, for all threads."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
