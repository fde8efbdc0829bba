"""Load a checkpoint by its source: `openclip:ViT-B-32`, or a path whose content tells the family (see `FAMILIES`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tuwen.errors import InvalidInput
from tuwen.models import chinese_clip, flagai, openclip, paddle, trained
from tuwen.models import transformers as huggingface
from tuwen.models.checkpoints import Inspection
from tuwen.models.openclip_weights import architecture_of
from tuwen.models.towers import Towers
from tuwen.models.trained import PREFIX, Recipe, call


@dataclass(frozen=True, slots=True)
class Family:
    """A family of checkpoints.

    Attributes:
        name: the part of a source before the colon.
        written: how a source is written, with an example.
        load: called with the part after the colon (or a path), the file of the weights if given, and the architecture
            if given.
        recognises: returns whether a file or folder belongs to this family.
    """

    name: str
    written: str
    load: Callable[[str, Path | None, str | None], Towers]
    recognises: Callable[[Inspection], bool]


def load_source(source: str, weights: Path | None = None, *, arch: str | None = None) -> Towers:
    """Load a checkpoint from this machine.

    Args:
        source: a family and the model's name in it (see `FAMILIES`), or the path of a checkpoint, whose family is
            recognised by its content.
        weights: the file of its weights, if `source` is not a path.
        arch: the architecture, if it cannot be inferred from the file.

    Raises:
        InvalidInput: an unknown family or model, weights that are missing or belong to another model, or an
            ambiguous architecture; the message then lists the possible ones.
    """
    kind, colon, name = source.partition(":")
    family = next((family for family in FAMILIES if family.name == kind), None)
    if family is not None and colon and name:
        return family.load(name, weights, arch)
    path = Path(source)
    if not path.exists():
        raise InvalidInput(f"{source!r} is not a checkpoint; {_ways()}", value=source, hint=_ways())
    if weights is not None:
        raise InvalidInput(
            f"{source} is itself a checkpoint; leave --weights out, or write its family before it", value=weights
        )
    return family_of(path).load(source, None, arch)


def build(recipe: Recipe) -> Towers:
    """Build the towers with which training starts.

    Raises:
        InvalidInput: the source cannot be used.
    """
    if recipe.source.startswith(PREFIX):
        return _of_module(recipe)
    if recipe.scratch:
        return _random(recipe)
    return load_source(recipe.source, recipe.weights, arch=recipe.arch)


def _random(recipe: Recipe) -> Towers:
    kind, _, name = recipe.source.partition(":")
    if kind == "hf" and Path(name).is_dir():
        return huggingface.load(Path(name), seed=recipe.seed, overrides=recipe.overrides)
    if kind != "openclip" or not name:
        hint = (
            "use openclip:ARCHITECTURE, hf:FOLDER with a configuration and a tokenizer, or a module of your own, "
            "python:package.module:function"
        )
        raise InvalidInput(
            f"model.scratch does not support the source {recipe.source!r}: {hint}",
            value=recipe.source,
            where="model.scratch",
            hint=hint,
        )
    architecture, _, tag = name.partition("/")
    return openclip.load(architecture, tag=tag or None, seed=recipe.seed, overrides=recipe.overrides)


def _of_module(recipe: Recipe) -> Towers:
    """Call a user-defined function with the seed and the overrides, and check that it returns towers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        towers = call(recipe.source, **recipe.overrides)
    if not isinstance(towers, Towers):
        kind = type(towers).__name__
        raise InvalidInput(
            f"{recipe.source} returns {kind}, not tuwen.models.towers.Towers", value=kind, where=recipe.source
        )
    return towers


def family_of(path: Path) -> Family:
    """Recognise the family of a file or folder by its content.

    Raises:
        InvalidInput: it belongs to none, or cannot be read.
    """
    found = Inspection(path)
    for family in FAMILIES:
        if family.recognises(found):
            return family
    kind = found.config.get("model_type")
    shown = f" (model_type {kind!r} in its config.json)" if kind else ""
    reason = huggingface.of_own_code(found.config)
    message = f"{path}: {reason}" if reason else f"{path}{shown} does not belong to a known model family"
    raise InvalidInput(f"{message}; {_ways()}", value=kind, where=path, hint=_ways())


def _ways() -> str:
    return "write " + "; or ".join(family.written for family in FAMILIES) + "; or the path of such a file or folder"


def _load_openclip(name: str, weights: Path | None, arch: str | None) -> Towers:
    """An architecture with the file of its weights, a folder as on the hub, or the file itself."""
    if Path(name).is_dir():
        return openclip.load_folder(Path(name), weights)
    if Path(name).is_file():
        name, weights = arch or architecture_of(Path(name)), Path(name)
    if weights is None:
        raise InvalidInput(
            f"openclip:{name} needs the file of its weights: add --weights FILE", value=name, hint="add --weights FILE"
        )
    architecture, _, tag = name.partition("/")
    return openclip.load(architecture, weights, tag=tag or None)


def _is_openclip(found: Inspection) -> bool:
    """Whether tensors have CLIP's names; every image tower of open_clip is called `visual`."""
    names = found.tensors
    visual = any(name.startswith("visual.") for name in names)
    text = any(name.startswith(("text.", "transformer.resblocks.")) for name in names)
    return found.has("open_clip_config.json") or (visual and text)


def _load_huggingface(name: str, weights: Path | None, arch: str | None) -> Towers:
    return huggingface.load(_folder("hf", name, weights, arch))


def _load_chinese_clip(name: str, weights: Path | None, arch: str | None) -> Towers:
    return chinese_clip.load(*_file("chinese-clip", name, weights, arch))


def _load_flagai(name: str, weights: Path | None, arch: str | None) -> Towers:
    return flagai.load(_folder("flagai", name, weights, arch))


def _load_paddle(name: str, weights: Path | None, arch: str | None) -> Towers:
    return paddle.load(*_file("paddle", name, weights, arch))


def _folder(family: str, name: str, weights: Path | None, arch: str | None) -> Path:
    """The folder of a family whose folders need no further arguments."""
    if not Path(name).is_dir():
        raise InvalidInput(
            f"{family}:{name} is not a folder on this machine; give the folder of config.json", value=name
        )
    for option, value in (("--weights", weights), ("--arch", arch)):
        if value is not None:
            raise InvalidInput(f"{family}:{name} needs no {option}; leave it out", value=value, where=option)
    return Path(name)


def _file(family: str, name: str, weights: Path | None, arch: str | None) -> tuple[Path, str | None]:
    """The file and the architecture: `family:FILE`, or `family:ARCHITECTURE` with the file apart."""
    if weights is None and not Path(name).is_file():
        raise InvalidInput(
            f"{family}:{name}: there is no file {name}; if it is an architecture, add --weights FILE", value=name
        )
    if weights is None:
        return Path(name), arch
    if arch not in (None, name):
        raise InvalidInput(f"{family}:{name} and --arch {arch} are different architectures; leave one out", value=arch)
    return weights, name


def _load_trained(name: str, weights: Path | None, arch: str | None) -> Towers:
    """A folder of `tuwen train`, which needs no further arguments."""
    if weights is not None or arch is not None:
        raise InvalidInput(f"trained:{name} needs no weights or architecture; leave them out", value=weights or arch)
    return trained.load(Path(name), build)


def _is_trained(found: Inspection) -> bool:
    return found.has(trained.FILE, trained.WEIGHTS)


FAMILIES = (
    Family("trained", "trained:FOLDER, a checkpoint of tuwen train, e.g. output/best", _load_trained, _is_trained),
    Family(
        "paddle",
        "paddle:FILE.pdparams, or paddle:ARCHITECTURE with --weights, e.g. paddle:CLIP_vit_base_patch32_224",
        _load_paddle,
        paddle.recognises,
    ),
    Family(
        "chinese-clip",
        "chinese-clip:FILE.pt, or chinese-clip:ARCHITECTURE with --weights, e.g. chinese-clip:ViT-B-16",
        _load_chinese_clip,
        chinese_clip.recognises,
    ),
    Family("flagai", "flagai:FOLDER, e.g. flagai:checkpoints/AltCLIP-XLMR-L", _load_flagai, flagai.recognises),
    Family("hf", "hf:FOLDER, of a model of transformers", _load_huggingface, huggingface.recognises),
    Family(
        "openclip",
        "openclip:ARCHITECTURE[/TAG] or openclip:FOLDER, e.g. openclip:ViT-B-32/laion2b_s34b_b79k",
        _load_openclip,
        _is_openclip,
    ),
)
"""every family, in the order in which a path's content is tried; Paddle's files have open_clip's names too"""
