"""OpenVINO: sessions on CPUs, Intel GPUs and NPUs, with a cache of compiled models."""

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
from tuwen.runtime.engines import import_openvino, openvino_name
from tuwen.runtime.machine import cpu_features, native_precisions
from tuwen.runtime.session import embedding_output
from tuwen.types import Port

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoSession:
    """A `Session` on OpenVINO. Thread-safe; one thread computes at a time."""

    runtime = "openvino"

    def __init__(self, graph: Path, *, device: str, precision: str, threads: int, cache: Path | None = None) -> None:
        """Load a graph, from the cache of compiled models if it is there.

        Args:
            graph: the ONNX file.
            device: `cpu`, or `openvino:` and OpenVINO's own name, e.g. `openvino:GPU`.
            precision: what it computes in there. With `int8`, the parts of the graph that are not quantised are
                computed in fp32 on a CPU.
            threads: for computing on the CPU.
            cache: where compiled models are kept; None keeps nothing.

        Raises:
            RuntimeUnavailable: the device or precision is not available, or the device cannot run the graph.
        """
        self.device = device
        self.precision = precision
        name = openvino_name(device)
        core = import_openvino().Core()
        hint = _HINTS[_around_int8(device) if precision == "int8" else precision]
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if name == "CPU":
            config |= {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1", "ENABLE_CPU_PINNING": "NO"}
        try:
            self._model, self._mapped = _compiled(core, graph, name, config, cache)
        except RuntimeError as error:
            message = f"openvino cannot run {graph} on {device}: {_last_line(error)}"
            raise RuntimeUnavailable(message, value=device, where=graph) from error
        self._check_precision(hint)
        outputs = [(port.any_name, _axes(port)) for port in self._model.outputs]
        self._output = self._model.output(embedding_output(outputs, str(graph)))
        self.inputs = tuple(_port(port) for port in self._model.inputs)
        self._request = self._model.create_infer_request()
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See `Session.run`.

        Raises:
            RuntimeUnavailable: the device failed, e.g. because it ran out of memory.
        """
        with self._lock:
            try:
                results = self._request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            except RuntimeError as error:
                message = f"openvino failed on {self.device}: {_last_line(error)}"
                raise RuntimeUnavailable(message, value=self.device) from error
            return np.array(results[self._output], dtype=np.float32)  # a copy: the next run overwrites it

    def _check_precision(self, hint: str) -> None:
        """OpenVINO accepts any hint, and computes in fp32 if the device lacks the precision."""
        name = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if name != hint:
            raise RuntimeUnavailable(
                f"openvino computes in {name} on {self.device}, not in {hint}: choose another --precision",
                value=hint,
                where=self.device,
            )


def _around_int8(device: str) -> str:
    """The precision of the parts of an int8 graph that are not quantised.

    On a CPU neither bf16, in which the vectors of the packaged model of pictograms came to a cosine of 0.2 where
    ViT-B/32's came to 0.998, nor fp16, which took 57 times as long as fp32.
    """
    return "fp16" if device != "cpu" and "fp16" in native_precisions(device) else "fp32"


def _axes(port: Any) -> int | None:  # noqa: ANN401
    rank = port.partial_shape.rank
    return rank.get_length() if rank.is_static else None


def _port(port: Any) -> Port:  # noqa: ANN401
    shape = tuple(None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape)
    return Port(port.any_name, shape, np.dtype(port.element_type.to_dtype()))


def _last_line(error: Exception) -> str:
    """The reason: the lines before it name places in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


Mapped: TypeAlias = NDArray[np.uint8] | None
"""The file that a model was loaded from: it contains the weights, so it must live as long as the model."""


def _compiled(
    core: Any,  # noqa: ANN401
    graph: Path,
    device: str,
    config: dict[str, str],
    cache: Path | None,
) -> tuple[Any, Mapped]:
    """A compiled model, from the cache or compiled now and kept there: a text tower is ready in 0.2 s, not in 2 s.

    Args:
        core: OpenVINO's.
        graph: the ONNX file.
        device: OpenVINO's name of it.
        config: how it is compiled.
        cache: None keeps nothing. A cache that cannot be read or written is ignored.

    Raises:
        RuntimeError: from OpenVINO, if the device cannot run the graph.
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
    """The cache file: a folder for the graph's path, a name for its content and all that affects compilation."""
    weights = [graph.parent / name for name in read_graph(graph).weight_files]
    content = _hash([cached_sha256(path, cache) for path in (graph, *weights)])
    machine = [core.get_property(device, name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    how = _hash([import_openvino().__version__, device, machine, cpu_features(), sorted(config.items())])
    return cache / "openvino" / _hash(os.fsdecode(graph.resolve())) / f"{content}-{how}.blob"


def _read(core: Any, entry: Path, device: str, config: dict[str, str]) -> tuple[Any, Mapped] | None:  # noqa: ANN401
    try:
        mapped = np.memmap(entry, dtype=np.uint8, mode="c")  # copy on write: OpenVINO needs a writable buffer
        tensor = import_openvino().Tensor(mapped, shared_memory=True)
        return core.import_model(tensor, device, config), mapped
    except (OSError, ValueError, RuntimeError):  # absent, empty, or not written by this OpenVINO
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
        _remove_outdated(entry)
    except OSError:
        part.unlink(missing_ok=True)


def _remove_outdated(entry: Path) -> None:
    """Remove models compiled from other contents of the same path, and files that killed processes left unfinished.

    Processes that still use such a model have it mapped.
    """
    content = entry.name.partition("-")[0]
    for other in entry.parent.iterdir():
        unfinished = other.suffix == ".part" and time.time() - other.stat().st_mtime > 3600
        if unfinished or (other.suffix == ".blob" and not other.name.startswith(content)):
            other.unlink(missing_ok=True)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]
