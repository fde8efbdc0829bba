"""Lets `import torchvision` work beside any torch, CPU-only ones included.

torchvision's compiled operators are built for one torch (the wheel on PyPI: for CUDA). Beside another they do not
load, and then its import fails, because it describes the shapes of two operators (`nms`, `qnms`) that were never
registered. The CLIP family needs none of them: it uses torchvision's Python transforms alone. So where the
compiled operators do not load, their names are declared, without an implementation: calling one is still an error.
"""

import importlib.util
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # torch forgets an operator when its Library object is collected


def make_torchvision_importable() -> None:
    """Declare the operators that torchvision's import needs, unless its compiled ones load. Call it before.

    Does nothing where torchvision is absent or already imported: the import that follows tells what is wrong.
    """
    if _declared or _operators_load():
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)  # type: ignore[no-untyped-call]
    _declared.append(library)


def _operators_load() -> bool:
    """Whether torchvision's compiled operators load (doing so twice is harmless), or there is nothing to load."""
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
