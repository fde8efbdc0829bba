"""Import torchvision, and the packages that need it, with any build of torch, CPU-only ones included.

torchvision's compiled operators are built for one torch (the wheel on PyPI: for CUDA). With another they do not load,
and its import fails, because it describes the shapes of two operators (`nms`, `qnms`) that were never registered. The
CLIP family only uses torchvision's transforms in Python. So if the compiled operators do not load, their names are
declared without an implementation; calling one is still an error.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tuwen.errors import require

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # torch forgets an operator when its Library object is collected


def make_torchvision_importable() -> None:
    """Declare the operators that torchvision's import needs, unless its compiled ones load; call it before the import.

    Does nothing if torchvision is not installed or already imported.
    """
    if _declared or _operators_load():
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]
    _declared.append(library)


def import_open_clip() -> ModuleType:
    """The package `open_clip`.

    Raises:
        MissingExtra: it is not installed.
    """
    make_torchvision_importable()
    return require("open_clip", extra="export")


def import_transformers() -> Any:  # noqa: ANN401  (a package without types)
    """The package `transformers`.

    Raises:
        MissingExtra: it is not installed.
    """
    make_torchvision_importable()
    return require("transformers", extra="export")


def _operators_load() -> bool:
    """Whether torchvision's compiled operators load, or there is nothing to load; loading them twice is harmless."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    compiled = [path for path in Path(spec.origin).parent.glob("_C*") if path.suffix in {".so", ".pyd", ".dylib"}]
    try:
        for path in compiled:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return bool(compiled)
