"""ncnn: sessions of models that `tuwen convert --to ncnn` wrote, on the CPU, one row at a time."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import RuntimeUnavailable, require
from tuwen.runtime.session import silenced_stdout
from tuwen.types import Port


class NcnnSession:
    """A `Session` on ncnn. Thread-safe; one thread computes at a time."""

    runtime = "ncnn"
    device = "cpu"

    def __init__(self, model: Path, weights: Path, inputs: Sequence[Port], *, precision: str, threads: int) -> None:
        """Load a model.

        Args:
            model: the `.param` file.
            weights: the `.bin` file.
            inputs: its inputs in order, each with a first axis of 1.
            precision: what its weights are stored in; it computes in fp32.
            threads: for computing.

        Raises:
            MissingExtra: ncnn is not installed.
            RuntimeUnavailable: it cannot load the files: e.g. because of an operation that it lacks.
        """
        self.precision = precision
        self.inputs = tuple(inputs)
        self._lock = threading.Lock()
        with silenced_stdout():
            self._package = require("ncnn", extra="convert")
            self._net = self._package.Net()
            _exact(self._net.opt, threads)
            failed = self._net.load_param(str(model)) or self._net.load_model(str(weights))
        if failed:
            raise RuntimeUnavailable(f"ncnn cannot load {model}: it lacks an operation of the model")

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`; the one row of each feed.

        Raises:
            RuntimeUnavailable: it gives no output.
        """
        with self._lock, self._net.create_extractor() as extractor:
            for place, port in enumerate(self.inputs):
                extractor.input(f"in{place}", self._package.Mat(np.ascontiguousarray(feeds[port.name][0])).clone())
            failed, output = extractor.extract("out0")
            if failed:
                raise RuntimeUnavailable("ncnn gives no output: it lacks an operation of the model")
            return np.array(output, dtype=np.float32).reshape(1, -1)


def _exact(options: Any, threads: int) -> None:  # noqa: ANN401
    """Compute in fp32: by default ncnn stores activations in 16 bits."""
    options.num_threads = threads
    options.use_vulkan_compute = False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(options, f"use_{name}", False)
