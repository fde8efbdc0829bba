"""ONNX Runtime: sessions on the CPU, or on an accelerator through its execution provider."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import import_onnxruntime
from tuwen.runtime.session import embedding_output
from tuwen.types import Port

PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"),
    "rocm": ("MIGraphXExecutionProvider", "ROCMExecutionProvider"),
    "coreml": ("CoreMLExecutionProvider",),
    "cann": ("CANNExecutionProvider",),
    "directml": ("DmlExecutionProvider",),
}
"""device -> its providers, best first"""

NUMBERED = {"cuda", "tensorrt", "rocm", "cann", "directml"}
"""devices of which a machine may have several"""

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
_ERRORS_ONLY = 3


class OnnxRuntimeSession:
    """A `Session` on ONNX Runtime. Thread-safe."""

    runtime = "onnxruntime"

    def __init__(self, graph: Path, *, device: str, precision: str, threads: int) -> None:
        """Load a graph.

        Args:
            graph: the ONNX file.
            device: a key of `PROVIDERS`, with `:N` if there are several.
            precision: what it computes in there.
            threads: for computing on the CPU.

        Raises:
            RuntimeUnavailable: the device cannot be used, or cannot run the graph.
        """
        self.device = device
        self.precision = precision
        package = import_onnxruntime()
        provider, options = provider_for(device, precision, package.get_available_providers())
        try:
            session = package.InferenceSession(
                str(graph), _session_options(package, threads), providers=[(provider, options)]
            )
        except Exception as error:  # its exceptions share no base
            message = f"onnxruntime cannot run {graph} on {device}: {_first_line(error)}"
            raise RuntimeUnavailable(message, value=device, where=graph) from error
        _refuse_fallback(session.get_providers(), provider, device)
        self._session = session
        outputs = [(output.name, len(output.shape) or None) for output in session.get_outputs()]
        self._output = embedding_output(outputs, str(graph))
        self.inputs = tuple(_port(node) for node in session.get_inputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`.

        Raises:
            RuntimeUnavailable: the device failed, e.g. because it ran out of memory.
        """
        try:
            output = self._session.run([self._output], dict(feeds))[0]
        except Exception as error:  # its exceptions share no base
            message = f"onnxruntime failed on {self.device}: {_first_line(error)}"
            raise RuntimeUnavailable(message, value=self.device) from error
        return np.asarray(output, dtype=np.float32)


def devices_of(providers: Sequence[str]) -> tuple[str, ...]:
    """The devices that a build with these providers can use."""
    return tuple(name for name, wanted in PROVIDERS.items() if set(wanted) & set(providers))


def provider_for(device: str, precision: str, available: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The provider of a device, and its options.

    Raises:
        RuntimeUnavailable: this build of onnxruntime has none.
    """
    name, _, number = device.partition(":")
    found = [provider for provider in PROVIDERS.get(name, ()) if provider in available]
    if not found:
        devices = ", ".join(devices_of(available))
        raise RuntimeUnavailable(f"onnxruntime has no device {name} on this machine; it has {devices}", value=device)
    options = {"device_id": number or "0"} if name in NUMBERED else {}
    if name == "cuda" and precision == "fp32":
        options["use_tf32"] = "0"  # the default computes with 10 bits of mantissa
    if name == "tensorrt":
        options |= {"trt_fp16_enable": str(precision == "fp16"), "trt_int8_enable": str(precision == "int8")}
    return found[0], options


def _session_options(package: Any, threads: int) -> Any:  # noqa: ANN401
    options = package.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads that wait burn no core: decoding, writing and searching want it (docs/log.md, 2026-11-21).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _refuse_fallback(used: Sequence[str], wanted: str, device: str) -> None:
    """ONNX Runtime silently uses the CPU if a provider's libraries or driver do not load."""
    if used[0] != wanted:
        raise RuntimeUnavailable(
            f"onnxruntime could not start {wanted} for {device} and would fall back to {used[0]}: install the "
            "libraries and the driver that it needs, or choose --device cpu",
            value=device,
        )


def _port(node: Any) -> Port:  # noqa: ANN401
    shape = tuple(length if isinstance(length, int) and length > 0 else None for length in node.shape)
    return Port(node.name, shape, np.dtype(_DTYPES[node.type]))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
