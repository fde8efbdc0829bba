"""Imports `onnxruntime` and `openvino` with their telemetry switched off. All of tuwen imports them here.

onnxruntime (official builds since 1.29) writes a device id and a database of events to the home folder and uploads
them; openvino contacts an analytics host. Both must be told not to before their first import.
"""

import os
import sys
from importlib import import_module
from types import ModuleType

from tuwen.errors import RuntimeUnavailable

_CONVERTER = "openvino.tools.ovc"

TELEMETRY_OFF = {"ORT_DISABLE_TELEMETRY": "1"}
"""environment variables that switch telemetry off in a new process"""


def import_onnxruntime() -> ModuleType:
    """The package `onnxruntime`, without telemetry for the life of the process.

    Raises:
        RuntimeUnavailable: it is not installed, or its libraries do not load.
    """
    os.environ.update(TELEMETRY_OFF)  # read once, when its library is loaded
    package = _import("onnxruntime")
    package.disable_telemetry_events()  # in case it was imported before, and for Windows' own provider
    return package


def import_openvino() -> ModuleType:
    """The package `openvino`, without its telemetry package and its converter of models, which take 0.3 s to import.

    `openvino.convert_model` is missing then: import it from `openvino.tools.ovc`.

    Raises:
        RuntimeUnavailable: it is not installed, or its libraries do not load.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes its import fail
    if "openvino" in sys.modules:
        return _import("openvino")
    sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
    try:
        return _import("openvino")
    finally:
        if sys.modules[_CONVERTER] is None:
            del sys.modules[_CONVERTER]


def openvino_name(device: str) -> str:
    """OpenVINO's own name of a device: `CPU` for `cpu`, `GPU.1` for `openvino:GPU.1`."""
    return "CPU" if device == "cpu" else device.partition(":")[2]


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        hint = f"pip install {name}"
        message = f"the runtime {name} cannot be loaded ({error}): {hint}"
        raise RuntimeUnavailable(message, value=name, hint=hint) from error
