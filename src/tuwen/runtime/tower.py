"""One tower of a bundle, opened when it is first used.

Knows which input carries what, and fills a batch where the graph insists on its size. Does not know how inputs are
made or batches chosen, nor what becomes of the numbers.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.layout import Tower
from tuwen.errors import BundleInvalid
from tuwen.runtime.batches import filled
from tuwen.runtime.session import Session
from tuwen.types import Port

OpenSession = Callable[[Tower], Session]
"""Loads a tower; called at most once for each."""


class LazyTower:
    """A tower and its session. Safe in several threads."""

    def __init__(self, bundle: Bundle, tower: Tower, open_session: OpenSession) -> None:
        self._bundle = bundle
        self._tower = tower
        self._open_session = open_session
        self._opened: Session | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What to call it in an error."""
        session = self._session()
        return f"the {self._tower} tower of {self._bundle.manifest.name} on {session.runtime} {session.device}"

    def pixel_port(self) -> Port:
        """The input that carries the pictures.

        Raises:
            BundleInvalid: there is not one of four axes, alone.
        """
        return self._only(self._session().inputs, 4)

    def text_ports(self) -> tuple[Port, tuple[Port, ...]]:
        """The input that carries the tokens, and those that say more of them: masks and token types.

        Raises:
            BundleInvalid: there are others.
        """
        ports = self._session().inputs
        beside = tuple(port for port in ports if is_mask(port) or "token_type" in port.name)
        return self._only([port for port in ports if port not in beside], 2), beside

    def run(self, feeds: Mapping[Port, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute (n, dim) float32, as the graph gives them, for n rows of each input.

        Raises:
            BundleInvalid: it gives another number of numbers than the manifest says.
        """
        rows = len(next(iter(feeds.values())))
        ready = {
            port.name: np.ascontiguousarray(filled(value, port.shape[0]), dtype=port.dtype)
            for port, value in feeds.items()
        }
        output = self._session().run(ready)[:rows]
        if output.shape != (rows, self._bundle.manifest.dim):
            raise BundleInvalid(
                f"the {self._tower} tower of {self._bundle.folder} gives {output.shape[1:]} numbers a row, "
                f"not the {self._bundle.manifest.dim} that its manifest says"
            )
        return output

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
            f"the {self._tower} tower of {self._bundle.folder} wants inputs that tuwen does not know: {found}"
        )


def is_mask(port: Port) -> bool:
    """Whether an input says which tokens are real."""
    return "mask" in port.name
