"""MNN: sessions of models that `tuwen convert --to mnn` wrote, on the CPU."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import RuntimeUnavailable, require
from tuwen.runtime.session import silenced_stdout
from tuwen.types import Port


class MnnSession:
    """A `Session` on MNN. Thread-safe; one thread computes at a time."""

    runtime = "mnn"
    device = "cpu"

    def __init__(self, model: Path, inputs: Sequence[Port], output: str, *, precision: str, threads: int) -> None:
        """Load a model.

        Args:
            model: the `.mnn` file.
            inputs: its inputs, pixels as float32, tokens as int32.
            output: the name of its embedding.
            precision: what its weights are stored in; it computes in fp32.
            threads: for computing.

        Raises:
            MissingExtra: MNN is not installed.
            RuntimeUnavailable: it cannot load the file.
        """
        self.precision = precision
        self.inputs = tuple(inputs)
        self._lock = threading.Lock()
        names = [port.name for port in inputs]
        with silenced_stdout():
            self._package = require("MNN", extra="convert")
            config = {"backend": "CPU", "numThread": threads, "precision": "high"}
            self._manager = self._package.nn.create_runtime_manager((config,))
            self._module = self._package.nn.load_module_from_file(
                str(model), names, [output], runtime_manager=self._manager
            )
        if self._module is None:
            raise RuntimeUnavailable(f"MNN cannot load {model}: convert the bundle again")

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`."""
        with self._lock:
            variables = [self._variable(np.ascontiguousarray(feeds[port.name])) for port in self.inputs]
            return np.array(self._module.forward(variables)[0].read(), dtype=np.float32)

    def _variable(self, value: NDArray[Any]) -> Any:  # noqa: ANN401
        expressions = self._package.expr
        kind = expressions.float if value.dtype == np.float32 else expressions.int
        return expressions.const(value, list(value.shape), expressions.NCHW, kind)
