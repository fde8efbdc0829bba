"""What OpenVINO compiled, kept on disk: a text tower is ready in 0.2 s in place of a second or two.

OpenVINO has such a cache itself, but writes each entry in place (another process may read half of it), never
removes one, and refuses to run where its folder cannot be written. Here an entry is renamed into place, belongs to
exact bytes of graph and weights, and goes when the graph at its path has changed.
"""

import hashlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.digest import cached_sha256
from tuwen.bundle.graph import read_graph
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.machine import cpu_features

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
