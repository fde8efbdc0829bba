"""A tower on OpenVINO: Intel and other CPUs, Intel GPUs and NPUs.

Knows OpenVINO's settings. Does not choose them (`plan.py`), nor keep what was compiled (`compiled.py`).
"""

import hashlib
import io
import json
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.files import cached_sha256
from tuwen.bundle.graph import read_graph
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.machine import cpu_features
from tuwen.runtime.session import embedding_output
from tuwen.types import Port

# ---- What OpenVINO compiled, kept on disk: a text tower is ready in 0.2 s in place of a second or two.

Mapped: TypeAlias = NDArray[np.uint8] | None
"""The file that a model was read from: it must live as long as the model, whose weights are in it."""


def compile_model(
    core: Any,  # noqa: ANN401
    graph: Path,
    device: str,
    config: dict[str, str],
    cache: Path | None,
) -> tuple[Any, Mapped]:
    """A compiled model, from the cache if it is there; else compiled, and kept for the next time.

    Args:
        core: OpenVINO's.
        graph: the ONNX file.
        device: OpenVINO's name for it.
        config: how it is compiled.
        cache: None keeps nothing. A cache that cannot be written or read costs time, not correctness.

    Raises:
        RuntimeError: as OpenVINO raises it where the graph cannot be run on the device.
    """
    if cache is None or "EXPORT_IMPORT" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return core.compile_model(str(graph), device, config), None
    entry = _entry(core, graph, device, config, cache)
    found = _read(core, entry, device, config)
    if found is not None:
        return found
    model = core.compile_model(str(graph), device, config)
    _write(entry, model.export_model())
    return model, None


def _entry(core: Any, graph: Path, device: str, config: dict[str, str], cache: Path) -> Path:  # noqa: ANN401
    """A folder for the graph's path; in it a file for its content and all else that decides what is compiled."""
    weights = [graph.parent / name for name in read_graph(graph).weight_files]
    content = _hash([cached_sha256(path, cache) for path in (graph, *weights)])
    machine = [core.get_property(device, name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    how = _hash([import_openvino().__version__, device, machine, cpu_features(), sorted(config.items())])
    return cache / "openvino" / _hash(os.fsdecode(graph.resolve())) / f"{content}-{how}.blob"


def _read(core: Any, entry: Path, device: str, config: dict[str, str]) -> tuple[Any, Mapped] | None:  # noqa: ANN401
    try:
        mapped = np.memmap(entry, dtype=np.uint8, mode="c")  # private: OpenVINO wants to be able to write
        tensor = import_openvino().Tensor(mapped, shared_memory=True)
        return core.import_model(tensor, device, config), mapped
    except (OSError, ValueError, RuntimeError):  # absent, empty, or not what this OpenVINO wrote
        return None


def _write(entry: Path, blob: io.BytesIO) -> None:
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=entry.parent, suffix=".part")
    except OSError:
        return
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the content
        part.replace(entry)
        _forget_others(entry)
    except OSError:
        part.unlink(missing_ok=True)


def _forget_others(entry: Path) -> None:
    """Remove what was compiled of another content of the same path, and what killed processes left half written.

    Processes that still use an entry have it mapped.
    """
    content = entry.name.partition("-")[0]
    for other in entry.parent.iterdir():
        half = other.suffix == ".part" and time.time() - other.stat().st_mtime > 3600
        if half or (other.suffix == ".blob" and not other.name.startswith(content)):
            other.unlink(missing_ok=True)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# ---- A tower on OpenVINO: Intel and other CPUs, Intel GPUs and NPUs.

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"FP32": "fp32", "BF16": "bf16", "FP16": "fp16", "INT8": "int8"}


class OpenVinoSession:
    """A `Session` on OpenVINO. `run` may be called from several threads: one computes at a time."""

    runtime = "openvino"

    def __init__(self, graph: Path, *, device: str, precision: str, threads: int, cache: Path | None = None) -> None:
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
