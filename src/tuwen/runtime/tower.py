"""A tower of a bundle: opened when first used, fed in batches, with unit vectors as the result.

A row's vector never depends on the other rows of its batch.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import TextSpec, Tower
from tuwen.errors import BundleInvalid, InvalidVectors
from tuwen.runtime.pipeline import BATCH
from tuwen.runtime.session import Session
from tuwen.types import Pixels, Port, Tokens, Vectors

OpenSession: TypeAlias = Callable[[Tower], Session]
"""Loads a tower; called at most once for each."""

TEXTS = 64
"""texts per batch"""
STEP = 4
"""texts are padded to a multiple of this many tokens: fewer lengths, so that more texts share a batch"""


class LazyTower:
    """A tower and its session, which is opened on first use. Thread-safe."""

    def __init__(self, bundle: Bundle, tower: Tower, open_session: OpenSession) -> None:
        self._bundle = bundle
        self._tower = tower
        self._open_session = open_session
        self._opened: Session | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The tower's name in an error."""
        session = self._session()
        return f"the {self._tower} tower of {self._bundle.manifest.name} on {session.runtime} {session.device}"

    @property
    def runtime(self) -> str:
        """What runs the tower."""
        return self._session().runtime

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """(n, 3, height, width) to (n, dim) unit vectors.

        Raises:
            BundleInvalid: the graph has unknown inputs, or vectors of another length than the manifest says.
            InvalidVectors: a vector is not finite, or zero.
        """
        vectors = np.empty((len(pixels), self._bundle.manifest.dim), dtype=np.float32)
        if len(pixels):
            port = self.pixel_port()
            for rows in image_batches(len(pixels), port.shape[0]):
                vectors[rows] = self._unit({port: pixels[rows]})
        return vectors

    def encode_tokens(self, tokens: Tokens) -> Vectors:
        """Texts to (n, dim) unit vectors; raises as `encode_pixels`."""
        vectors = np.empty((len(tokens.ids), self._bundle.manifest.dim), dtype=np.float32)
        if len(tokens.ids):
            port, others = self.text_ports()
            for batch in text_batches(tokens, self._bundle.manifest.text, (port.shape[0], port.shape[1])):
                zeros = np.zeros_like(batch.mask)
                feeds = {port: batch.ids} | {other: batch.mask if is_mask(other) else zeros for other in others}
                vectors[batch.rows] = self._unit(feeds)
        return vectors

    def pixel_port(self) -> Port:
        """The input for images.

        Raises:
            BundleInvalid: the graph has other inputs than one with four axes.
        """
        return self._only(self._session().inputs, 4)

    def text_ports(self) -> tuple[Port, tuple[Port, ...]]:
        """The input for tokens, and those for masks and token types.

        Raises:
            BundleInvalid: the graph has other inputs.
        """
        ports = self._session().inputs
        others = tuple(port for port in ports if is_mask(port) or "token_type" in port.name)
        return self._only([port for port in ports if port not in others], 2), others

    def run(self, feeds: Mapping[Port, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute (n, dim) float32, as the graph gives it, for n rows of each input.

        Raises:
            BundleInvalid: the vectors have another length than the manifest says.
        """
        rows = len(next(iter(feeds.values())))
        ready = {
            port.name: np.ascontiguousarray(padded_rows(value, port.shape[0]), dtype=port.dtype)
            for port, value in feeds.items()
        }
        output = self._session().run(ready)[:rows]
        if output.shape != (rows, self._bundle.manifest.dim):
            raise BundleInvalid(
                f"the {self._tower} tower of {self._bundle.folder} computes rows of shape {output.shape[1:]}, "
                f"but the manifest says dim = {self._bundle.manifest.dim}",
                value=output.shape[1:],
                where=self._bundle.folder,
            )
        return output

    def _unit(self, feeds: Mapping[Port, NDArray[Any]]) -> Vectors:
        output = self.run(feeds)
        lengths = np.linalg.norm(output.astype(np.float64), axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
        if len(bad):
            hint = "try --precision fp32 or another --runtime"
            raise InvalidVectors(
                f"{self.name} computed no usable vector for {len(bad)} of {len(output)} inputs (first: {bad[0]}): "
                f"the numbers are not finite, or all zero; {hint}",
                value=int(bad[0]),
                where=self._bundle.folder,
                hint=hint,
            )
        unit: Vectors = (output / lengths).astype(np.float32)
        return unit

    def _session(self) -> Session:
        with self._lock:
            if self._opened is None:
                self._opened = self._open_session(self._tower)
            return self._opened

    def _only(self, ports: Sequence[Port], axes: int) -> Port:
        if len(ports) == 1 and len(ports[0].shape) == axes:
            return ports[0]
        found = ", ".join(f"{port.name}{list(port.shape)}" for port in ports)
        raise BundleInvalid(
            f"the {self._tower} tower of {self._bundle.folder} has unknown inputs: {found}",
            value=[port.name for port in ports],
            where=self._bundle.folder,
        )


def is_mask(port: Port) -> bool:
    """Whether an input says which tokens are real."""
    return "mask" in port.name


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts of one length.

    Attributes:
        rows: the places of these texts among all texts.
        ids: (batch, length) int64.
        mask: (batch, length) int64, 1 for real tokens.
    """

    rows: NDArray[np.intp]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def image_batches(count: int, fixed: int | None) -> Iterator[slice]:
    """Slices of 0..count. `fixed`: the batch size of a graph that takes no other; the last slice may be shorter."""
    size = fixed or BATCH
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def text_batches(tokens: Tokens, spec: TextSpec, fixed: tuple[int | None, int | None]) -> Iterator[TextBatch]:
    """Texts of similar length together, without superfluous padding where the model allows that.

    Args:
        tokens: the texts.
        spec: whether padding may be truncated, and the id of padding.
        fixed: batch size and length of a graph that takes no others, each None if it takes any.
    """
    batch, length = fixed
    lengths = _padded_lengths(tokens.lengths, spec, length)
    for value in sorted(set(lengths.tolist())):  # numpy.unique imports numpy.ma, a thirtieth of a search's start
        rows = np.flatnonzero(lengths == value)
        for start in range(0, len(rows), batch or TEXTS):
            yield _text_batch(tokens, rows[start : start + (batch or TEXTS)], value, spec.pad_id)


def padded_rows(rows: NDArray[np.generic], batch: int | None) -> NDArray[np.generic]:
    """`rows` brought to a fixed batch size by repeating the last row; unchanged if the size is not fixed."""
    missing = 0 if batch is None else batch - len(rows)
    return rows if missing == 0 else np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])


def _padded_lengths(lengths: NDArray[np.int64], spec: TextSpec, fixed: int | None) -> NDArray[np.int64]:
    if fixed is not None or not spec.cut_exact:
        return np.full(len(lengths), fixed or spec.context_length, dtype=np.int64)
    return np.minimum(-(-lengths // STEP) * STEP, spec.context_length)


def _text_batch(tokens: Tokens, rows: NDArray[np.intp], length: int, pad_id: int) -> TextBatch:
    mask = (np.arange(length) < tokens.lengths[rows, None]).astype(np.int64)
    ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    known = min(length, tokens.ids.shape[1])
    ids[:, :known] = tokens.ids[rows, :known]
    return TextBatch(rows, np.where(mask == 1, ids, pad_id), mask)
