"""What people call a checkpoint, `openclip:ViT-B-32` or a path, to the family that loads it.

Knows the families by name, and by what their files look like: one record a family, in `FAMILIES`. They do not
know each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tuwen.bundle.huggingface import read_object
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_tensors
from tuwen.models.towers import Towers

# ---- What lies at a path, as far as it tells which family a checkpoint is of. Knows files, no family.


@dataclass(frozen=True)
class Contents:
    """A checkpoint's file or folder; each part is read when it is first asked for.

    Attributes:
        path: where it is.
    """

    path: Path

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The folder's `config.json`; empty where there is none.

        Raises:
            BundleInvalid: it is no JSON object.
        """
        place = self.path / "config.json"
        return read_object(place) if place.is_file() else {}

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The file's tensors by name; empty for a folder.

        Raises:
            InvalidInput: as `read_tensors`.
        """
        return {} if self.path.is_dir() else read_tensors(self.path)

    def has(self, *names: str) -> bool:
        """Whether all these files are in the folder."""
        return all((self.path / name).is_file() for name in names)


# ---- What people call a checkpoint, `openclip:ViT-B-32` or a path, to the family that loads it.


@dataclass(frozen=True, slots=True)
class Family:
    """One family of checkpoints.

    Attributes:
        name: what stands before the colon.
        written: how one is named, with an example.
        load: called with what stands after the colon (or a path), the file of the weights if one was given, and
            the architecture if one was said.
        recognises: whether a file or folder is of this family.
    """

    name: str
    written: str
    load: Callable[[str, Path | None, str | None], Towers]
    recognises: Callable[[Contents], bool]


def load_source(source: str, weights: Path | None = None, *, arch: str | None = None) -> Towers:
    """Load a checkpoint from this machine.

    Args:
        source: a family and its own name for the model, see `FAMILIES`; or the path of a checkpoint, whose family
            is told by its content.
        weights: the file of its weights, where `source` is not itself their place.
        arch: the architecture, where the file does not tell.

    Raises:
        InvalidInput: there is no such family or model, the weights are missing or of another model, or the
            architecture cannot be told; then the message lists what it may be.
    """
    kind, colon, name = source.partition(":")
    family = next((family for family in FAMILIES if family.name == kind), None)
    if family is not None and colon and name:
        return family.load(name, weights, arch)
    path = Path(source)
    if not path.exists():
        raise InvalidInput(f"{source!r} names no checkpoint: {_ways()}")
    if weights is not None:
        raise InvalidInput(f"{source} is itself a checkpoint: leave --weights out, or name its family before it")
    return family_of(path).load(source, None, arch)


def family_of(path: Path) -> Family:
    """The family that a file or folder is of, told by its content.

    Raises:
        InvalidInput: it is of none, or cannot be read.
    """
    contents = Contents(path)
    for family in FAMILIES:
        if family.recognises(contents):
            return family
    kind = contents.config.get("model_type")
    said = f" (its config.json says model_type {kind!r})" if kind else ""
    raise InvalidInput(f"{path}{said} is a checkpoint of no family that is known: {_ways()}")


def _ways() -> str:
    return "write " + "; or ".join(family.written for family in FAMILIES) + "; or the path of such a file or folder"


def _load_openclip(name: str, weights: Path | None, arch: str | None) -> Towers:
    """A name with its weights apart, a folder of the hub, or the file itself with its architecture said."""
    from tuwen.models import openclip
    from tuwen.models.openclip_weights import architecture_of

    if Path(name).is_dir():
        return openclip.load_folder(Path(name), weights)
    if Path(name).is_file():
        name, weights = arch or architecture_of(Path(name)), Path(name)
    if weights is None:
        raise InvalidInput(f"openclip:{name} needs the file of its weights: add --weights FILE")
    architecture, _, tag = name.partition("/")
    return openclip.load(architecture, weights, tag=tag or None)


def _is_openclip(contents: Contents) -> bool:
    """CLIP's own names, with the text tower apart or not; every image tower that open_clip has is `visual`."""
    names = contents.tensors
    visual = any(name.startswith("visual.") for name in names)
    text = any(name.startswith(("text.", "transformer.resblocks.")) for name in names)
    return contents.has("open_clip_config.json") or (visual and text)


def _load_huggingface(name: str, weights: Path | None, arch: str | None) -> Towers:
    from tuwen.models import transformers as huggingface

    return huggingface.load(_folder("hf", name, weights, arch))


def _is_huggingface(contents: Contents) -> bool:
    from tuwen.models import transformers as huggingface

    return huggingface.is_here(contents)


def _load_chinese_clip(name: str, weights: Path | None, arch: str | None) -> Towers:
    from tuwen.models import chinese_clip

    return chinese_clip.load(*_file("chinese-clip", name, weights, arch))


def _is_chinese_clip(contents: Contents) -> bool:
    from tuwen.models import chinese_clip

    return chinese_clip.is_here(contents)


def _load_flagai(name: str, weights: Path | None, arch: str | None) -> Towers:
    from tuwen.models import flagai

    return flagai.load(_folder("flagai", name, weights, arch))


def _is_flagai(contents: Contents) -> bool:
    from tuwen.models import flagai

    return flagai.is_here(contents)


def _load_paddle(name: str, weights: Path | None, arch: str | None) -> Towers:
    from tuwen.models import paddle

    return paddle.load(*_file("paddle", name, weights, arch))


def _is_paddle(contents: Contents) -> bool:
    from tuwen.models import paddle

    return paddle.is_here(contents)


def _folder(family: str, name: str, weights: Path | None, arch: str | None) -> Path:
    """A folder that says all by itself."""
    if not Path(name).is_dir():
        raise InvalidInput(f"{family}:{name} is no folder on this machine: give the one that holds config.json")
    for option, value in (("--weights", weights), ("--arch", arch)):
        if value is not None:
            raise InvalidInput(f"{family}:{name} says by itself what {option} would: leave {option} out")
    return Path(name)


def _file(family: str, name: str, weights: Path | None, arch: str | None) -> tuple[Path, str | None]:
    """The file and the architecture: `family:FILE`, or `family:ARCHITECTURE` with the file apart."""
    if weights is None and not Path(name).is_file():
        raise InvalidInput(f"{family}:{name}: there is no file {name}; where it is an architecture, add --weights FILE")
    if weights is None:
        return Path(name), arch
    if arch not in (None, name):
        raise InvalidInput(f"{family}:{name} and --arch {arch} are two architectures: leave one out")
    return weights, name


def _load_trained(name: str, weights: Path | None, arch: str | None) -> Towers:
    """A folder says all: how its towers were made, and their weights."""
    from tuwen.models import trained

    if weights is not None or arch is not None:
        raise InvalidInput(f"trained:{name} says itself what it is: leave the weights and the architecture out")
    return trained.load(Path(name))


def _is_trained(contents: Contents) -> bool:
    from tuwen.models import trained

    return contents.has(trained.FILE, trained.WEIGHTS)


FAMILIES = (
    Family("trained", "trained:FOLDER, a checkpoint of tuwen train, e.g. output/best", _load_trained, _is_trained),
    Family(
        "paddle",
        "paddle:FILE.pdparams, or paddle:ARCHITECTURE with --weights, e.g. paddle:CLIP_vit_base_patch32_224",
        _load_paddle,
        _is_paddle,
    ),
    Family(
        "chinese-clip",
        "chinese-clip:FILE.pt, or chinese-clip:ARCHITECTURE with --weights, e.g. chinese-clip:ViT-B-16",
        _load_chinese_clip,
        _is_chinese_clip,
    ),
    Family("flagai", "flagai:FOLDER, e.g. flagai:checkpoints/AltCLIP-XLMR-L", _load_flagai, _is_flagai),
    Family("hf", "hf:FOLDER, of a model of transformers", _load_huggingface, _is_huggingface),
    Family(
        "openclip",
        "openclip:ARCHITECTURE[/TAG] or openclip:FOLDER, e.g. openclip:ViT-B-32/laion2b_s34b_b79k",
        _load_openclip,
        _is_openclip,
    ),
)
"""Every family, in the order in which a path's content is tried: open_clip's names are in Paddle's files too."""
