"""The interface between the encoder and the engines: a session runs one tower of a model."""

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
"""names that exporters give to the output with the embedding"""


class Session(Protocol):
    """One tower on one engine. It neither splits batches nor normalises vectors.

    Attributes:
        runtime: `onnxruntime`, `openvino` or `torch`.
        device: where it runs, e.g. `cpu`, `cuda:0`.
        precision: what it computes in, e.g. `fp32`, `bf16`, `int8`.
        inputs: the graph's inputs.
    """

    runtime: str
    device: str
    precision: str
    inputs: tuple[Port, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute the embedding output, (n, dim) float32, for feeds that match `inputs`."""
        ...


def static_shapes(session: Session, context_length: int) -> Session:
    """The session with inputs of fixed shape: one row at a time, texts padded to the context length.

    For devices that do not support dynamic shapes. The vectors are the same.
    """
    session.inputs = tuple(
        replace(port, shape=(1, context_length) if len(port.shape) == 2 else (1, *port.shape[1:]))
        for port in session.inputs
    )
    return session


def embedding_output(outputs: Sequence[tuple[str, int | None]], graph: str) -> str:
    """The name of the output with the embedding: the only one with two axes, or else one of a known name.

    Args:
        outputs: name and number of axes (None if the graph does not say).
        graph: the graph's name in an error.

    Raises:
        BundleInvalid: no output qualifies.
    """
    flat = [name for name, axes in outputs if axes == 2]
    if len(flat) == 1:
        return flat[0]
    candidates = {name for name, axes in outputs if axes in (2, None)}
    known = [name for name in EMBEDDINGS if name in candidates]
    if not known:
        names = ", ".join(name for name, _ in outputs)
        raise BundleInvalid(f"{graph} has no output that is known to be an embedding (it has {names})", where=graph)
    return known[0]


@contextmanager
def silenced_stdout() -> Iterator[None]:
    """Discard what native libraries print to standard output within the block, in all threads."""
    sys.stdout.flush()
    kept, discarded = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(discarded, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(discarded)
