"""A tower on OpenVINO: Intel and other CPUs, Intel GPUs and NPUs.

Knows OpenVINO's settings. Does not choose them (`plan.py`), nor keep what was compiled (`compiled.py`).
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.compiled import compile_model
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.machine import cpu_features
from tuwen.runtime.session import embedding_output
from tuwen.types import Port

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"FP32": "fp32", "BF16": "bf16", "FP16": "fp16", "INT8": "int8"}


class OpenVinoSession:
    """A `Session` on OpenVINO. `run` may be called from several threads: one computes at a time."""

    runtime = "openvino"

    def __init__(
        self, graph: Path, *, device: str, precision: str, threads: int, cache: Path | None = None
    ) -> None:
        """Load a graph, compiled already if it was before.

        Args:
            graph: the ONNX file.
            device: `cpu`, or `openvino:` and OpenVINO's own name, e.g. `openvino:GPU`.
            precision: what it will compute in there. With `int8`, what the file does not quantise is computed in
                bf16 where the CPU has it, else in fp32.
            threads: for computing on the CPU.
            cache: where compiled models are kept; None keeps nothing.

        Raises:
            RuntimeUnavailable: the device or precision cannot be had, or the graph cannot be run on it.
        """
        self.device = device
        self.precision = precision
        name = openvino_name(device)
        core = import_openvino().Core()
        hint = _HINTS[_around_int8(core, name) if precision == "int8" else precision]
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if name == "CPU":
            config |= {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1", "ENABLE_CPU_PINNING": "NO"}
        try:
            self._model, self._mapped = compile_model(core, graph, name, config, cache)
        except RuntimeError as error:
            raise RuntimeUnavailable(f"openvino cannot run {graph} on {device}: {_last_line(error)}") from error
        self._check_precision(hint)
        outputs = [(port.any_name, _axes(port)) for port in self._model.outputs]
        self._output = self._model.output(embedding_output(outputs, str(graph)))
        self.inputs = tuple(_port(port) for port in self._model.inputs)
        self._request = self._model.create_infer_request()
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`.

        Raises:
            RuntimeUnavailable: the device gave up, e.g. out of memory.
        """
        with self._lock:
            try:
                results = self._request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            except RuntimeError as error:
                raise RuntimeUnavailable(f"openvino failed on {self.device}: {_last_line(error)}") from error
            return np.array(results[self._output], dtype=np.float32)  # a copy: the next run writes over it

    def _check_precision(self, hint: str) -> None:
        """OpenVINO takes any hint, and computes in fp32 where the device has not what was asked for."""
        name = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if name != hint:
            raise RuntimeUnavailable(
                f"openvino computes in {name} on {self.device}, not in {hint}: ask for another --precision"
            )


def openvino_name(device: str) -> str:
    """OpenVINO's own name of a device: `CPU` for `cpu`, `GPU.1` for `openvino:GPU.1`."""
    return "CPU" if device == "cpu" else device.partition(":")[2]


def native_precisions(device: str) -> frozenset[str]:
    """What a device computes in by itself, without emulation.

    Raises:
        RuntimeUnavailable: OpenVINO cannot be loaded.
    """
    return _native(import_openvino().Core(), openvino_name(device))


def _native(core: Any, name: str) -> frozenset[str]:  # noqa: ANN401
    listed = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
    native = {_CAPABILITIES[word] for word in listed if word in _CAPABILITIES}
    features = cpu_features()
    if name == "CPU" and features and not {"avx512_bf16", "amx_bf16", "bf16"} & set(features):
        native.discard("bf16")  # it lists what it can emulate with AVX-512 too
    return frozenset(native)


def _around_int8(core: Any, name: str) -> str:  # noqa: ANN401
    native = _native(core, name)
    return next(precision for precision in ("bf16", "fp16", "fp32") if precision in native)


def _axes(port: Any) -> int | None:  # noqa: ANN401
    rank = port.partial_shape.rank
    return rank.get_length() if rank.is_static else None


def _port(port: Any) -> Port:  # noqa: ANN401
    shape = tuple(None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
    return Port(port.any_name, shape, np.dtype(port.element_type.to_dtype()))


def _last_line(error: Exception) -> str:
    """The reason: what stands before it says where in OpenVINO's source it was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
