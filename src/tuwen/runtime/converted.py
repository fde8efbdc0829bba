"""Runs converted models: sessions on MNN and ncnn, and which engine reads the files of which conversion."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import Converted, model_files
from tuwen.bundle.manifest import Tower
from tuwen.errors import RuntimeUnavailable, require
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.openvino import OpenVinoSession
from tuwen.runtime.session import Session, silenced_stdout
from tuwen.types import Port

RUNNABLE = ("openvino", "mnn", "ncnn")


def converted_encoder(bundle: Bundle, converted: Converted, folder: Path, threads: int) -> Encoder:
    """An encoder with the bundle's preprocessing and tokenizer, and the converted towers.

    Raises:
        RuntimeUnavailable: tuwen cannot run this conversion.
    """
    if converted.to not in RUNNABLE:
        program = "trtexec" if converted.to == "tensorrt" else "ais_bench"
        raise RuntimeUnavailable(
            f"{folder} was converted to {converted.to}, which tuwen cannot run: use {program}",
            value=converted.to,
            where=folder,
            hint=f"use {program}",
        )

    def load(tower: Tower) -> Session:
        return open_converted(converted, folder, tower, threads)

    return Encoder(bundle, load, precision=converted.precision, exact_decode=True)


def open_converted(converted: Converted, folder: Path, tower: Tower, threads: int) -> Session:
    """Load one tower.

    Raises:
        RuntimeUnavailable: this tower was not converted, or cannot be loaded.
        MissingExtra: its runtime is not installed.
    """
    if tower not in converted.inputs:
        hint = "convert the bundle again with --tower both"
        raise RuntimeUnavailable(f"{folder} has no {tower} tower: {hint}", value=tower, where=folder, hint=hint)
    files = [folder / name for name in model_files(converted.to, tower)]
    if converted.to == "openvino":
        return OpenVinoSession(files[0], device="cpu", precision="fp32", threads=threads)
    ports = _ports(converted, tower)
    if converted.to == "mnn":
        return MnnSession(files[0], ports, converted.outputs[tower], precision=converted.precision, threads=threads)
    return NcnnSession(files[0], files[1], ports, precision=converted.precision, threads=threads)


def _ports(converted: Converted, tower: Tower) -> Sequence[Port]:
    kind = np.dtype(np.float32 if tower == "vision" else np.int32)
    return [Port(item.name, item.shape, kind) for item in converted.inputs[tower]]


class MnnSession:
    """A `Session` on MNN, on the CPU. Thread-safe; one thread computes at a time."""

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
            hint = "convert the bundle again"
            raise RuntimeUnavailable(f"MNN cannot load {model}: {hint}", where=model, hint=hint)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`."""
        with self._lock:
            variables = [self._variable(np.ascontiguousarray(feeds[port.name])) for port in self.inputs]
            return np.array(self._module.forward(variables)[0].read(), dtype=np.float32)

    def _variable(self, value: NDArray[Any]) -> Any:  # noqa: ANN401
        expressions = self._package.expr
        kind = expressions.float if value.dtype == np.float32 else expressions.int
        return expressions.const(value, list(value.shape), expressions.NCHW, kind)


class NcnnSession:
    """A `Session` on ncnn, on the CPU, one row at a time. Thread-safe; one thread computes at a time."""

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
            RuntimeUnavailable: it cannot load the files, e.g. because it does not support an operation.
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
            message = f"ncnn cannot load {model}: it does not support an operation of the model"
            raise RuntimeUnavailable(message, where=model)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`; the one row of each feed.

        Raises:
            RuntimeUnavailable: it computed no output.
        """
        with self._lock, self._net.create_extractor() as extractor:
            for place, port in enumerate(self.inputs):
                extractor.input(f"in{place}", self._package.Mat(np.ascontiguousarray(feeds[port.name][0])).clone())
            failed, output = extractor.extract("out0")
            if failed:
                raise RuntimeUnavailable("ncnn computed no output: it does not support an operation of the model")
            return np.array(output, dtype=np.float32).reshape(1, -1)


def _exact(options: Any, threads: int) -> None:  # noqa: ANN401
    """Compute in fp32: by default ncnn stores activations in 16 bits."""
    options.num_threads = threads
    options.use_vulkan_compute = False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(options, f"use_{name}", False)
