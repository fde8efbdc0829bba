"""Select the files of a hub repository that make up a model: ready ONNX files, or a checkpoint."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tuwen.bundle.huggingface import CONFIGS, PROCESSORS, SUFFIXES
from tuwen.bundle.manifest import TOWERS, Precision
from tuwen.errors import PullFailed

_OTHER_RUNTIMES = {".armnn", ".rknn"}
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
_BESIDE = {".json", ".txt", ".model"}


def is_ready(names: Sequence[str]) -> bool:
    """Whether a repository of these files has ready ONNX files of both towers."""
    return _is_huggingface(names) or _is_immich(names)


def ready_files(names: Sequence[str], precisions: Sequence[Precision]) -> list[str]:
    """The files of a ready model, in these precisions.

    Raises:
        PullFailed: a necessary file is missing.
    """
    if _is_immich(names):
        return _immich_files(names, precisions)
    graphs = [f"onnx/{tower}_model{SUFFIXES[kind][0]}.onnx" for tower in TOWERS for kind in precisions]
    processors = [name for name in PROCESSORS if name in names] or [PROCESSORS[0]]
    missing = sorted({*graphs, *CONFIGS, *processors} - set(names))
    if missing:
        raise PullFailed(f"the repository has no {', '.join(missing)}", value=missing)
    beside = [name for name in names if any(name.startswith(f"{graph}_data") for graph in graphs)]
    return [*CONFIGS, *processors, *graphs, *beside]


def _is_huggingface(names: Sequence[str]) -> bool:
    return {"onnx/vision_model.onnx", "onnx/text_model.onnx"} <= set(names)


def _is_immich(names: Sequence[str]) -> bool:
    return {"visual/model.onnx", "textual/model.onnx"} <= set(names)


def _immich_files(names: Sequence[str], precisions: Sequence[Precision]) -> list[str]:
    """Both towers' folders; weights are beside their graph, with any name."""
    if tuple(precisions) != ("fp32",):
        raise PullFailed("the repository only has fp32 files", value=list(precisions))
    towers = [name for name in names if re.fullmatch(r"(visual|textual)/[^/]+", name)]
    return ["config.json", *(name for name in towers if PurePosixPath(name).suffix not in _OTHER_RUNTIMES)]


def checkpoint_files(names: Sequence[str]) -> list[str]:
    """A checkpoint's weights, configuration and vocabulary.

    Raises:
        PullFailed: no weights with a known name.
    """
    beside = [name for name in names if "/" not in name and PurePosixPath(name).suffix in _BESIDE]
    return [*_weights(names), *beside]


def _weights(names: Sequence[str]) -> list[str]:
    """One file in the safest format available, or all parts of a split one."""
    for name in _WEIGHTS:
        if name in names:
            return [name]
    stem = next((stem for stem in ("model", "pytorch_model") if _parts(names, stem)), None)
    if stem is not None:
        return _parts(names, stem)
    single = [name for name in names if name.endswith(".pt") and "/" not in name]
    if len(single) == 1:
        return single
    raise PullFailed(f"the repository has no weights with a known name: {', '.join(_WEIGHTS)}, or one .pt")


def is_openclip(folder: Path) -> bool:
    """Whether the files that `checkpoint_files` selects in a folder belong to open_clip."""
    return any((folder / name).exists() for name in _WEIGHTS if name.startswith("open_clip"))


def _parts(names: Sequence[str], stem: str) -> list[str]:
    return [name for name in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.(safetensors|bin)", name)]


def weights_in(folder: Path) -> Path:
    """The file of the weights in a downloaded checkpoint's folder; the first of several parts.

    Raises:
        PullFailed: there is none.
    """
    return folder / _weights([path.name for path in sorted(folder.iterdir())])[0]
