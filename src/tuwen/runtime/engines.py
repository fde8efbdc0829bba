"""The one door to the two runtimes' packages, opened with their telemetry shut off.

Both send usage data unless told not to before their first import: onnxruntime (1.29 and later, official builds)
writes a device id and a database of events under the home folder and uploads them; openvino resolves an analytics
host. Everything in tuwen that needs either package imports it here.
"""

import os
import sys
from importlib import import_module
from types import ModuleType

from tuwen.errors import RuntimeUnavailable

TELEMETRY_OFF = {"ORT_DISABLE_TELEMETRY": "1"}
"""What a process needs in its environment, before it starts, to be as quiet as one that imports by this door."""


def import_onnxruntime() -> ModuleType:
    """The package `onnxruntime`, its telemetry off for the life of the process.

    Raises:
        RuntimeUnavailable: it is not installed, or its libraries do not load here.
    """
    os.environ.update(TELEMETRY_OFF)  # read once, when its library is loaded
    package = _import("onnxruntime")
    package.disable_telemetry_events()  # for one imported before us, and for Windows' own provider
    return package


def import_openvino() -> ModuleType:
    """The package `openvino`, which never sees its telemetry package (and starts 0.15 s sooner for it).

    Raises:
        RuntimeUnavailable: it is not installed, or its libraries do not load here.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    return _import("openvino")


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        raise RuntimeUnavailable(f"the runtime {name} cannot be loaded here ({error}): pip install {name}") from error
