"""What decides an open_clip model before its weights: the configuration of its towers, and its preprocessing.

Knows open_clip's architectures and published tags, and `open_clip_config.json`. QuickGELU and preprocessing are
facts of a training run that a state dict does not hold: they come from the tag, from OpenAI's archives being
OpenAI's, or from the configuration in the weights' folder. Where none of these is given, the architecture's name
says which activation it is (`ViT-B-32` or `ViT-B-32-quickgelu`), and what it does not say is asked for as a tag.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tuwen.bundle.config import read_object
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import is_torchscript

CONFIG = "open_clip_config.json"
"""The file that open_clip writes beside weights on the hub."""

_QUICK = "-quickgelu"
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")
_ALLOWED = {"interpolation": ("bicubic", "bilinear"), "resize_mode": ("shortest", "squash", "longest")}
_OLD_NAMES = {
    "proj": "hf_proj_type",
    "pooler_type": "hf_pooler_type",
}  # as open_clip's first text towers of the hub


@dataclass(frozen=True, slots=True)
class Definition:
    """A model without weights.

    Attributes:
        model: open_clip's `model_cfg`: the towers, and `quick_gelu`.
        preprocessing: open_clip's `preprocess_cfg`, every field that decides a pixel but the size.
    """

    model: dict[str, Any]
    preprocessing: dict[str, Any]


def published(open_clip: ModuleType, architecture: str, tag: str | None, weights: Path | None) -> Definition:
    """An architecture that open_clip carries, with what is known of these weights of it.

    Raises:
        InvalidInput: no such architecture or tag; or the weights' file does not say what the tag would.
    """
    config = open_clip.get_model_config(architecture)
    if config is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=5, cutoff=0.4)
        raise InvalidInput(f"open_clip has no architecture {architecture!r}; the nearest: {', '.join(near)}")
    tags = {
        name: open_clip.get_pretrained_cfg(architecture, name)
        for name in open_clip.list_pretrained_tags_by_model(architecture)
    }
    if tag is None and weights is not None and is_torchscript(weights):
        tag = "openai"  # nobody else published TorchScript archives
    if tag is not None and tag not in tags:
        known = ", ".join(tags) or "none"
        raise InvalidInput(f"open_clip knows no weights {tag!r} of {architecture}; known: {known}")
    chosen = tags if tag is None else {tag: tags[tag]}
    own = {**_defaults(), "quick_gelu": bool(config.get("quick_gelu"))}
    if tag is None and _named_after_activation(open_clip, architecture):
        chosen = {name: {**entry, "quick_gelu": own["quick_gelu"]} for name, entry in chosen.items()}
    training = _training(architecture, own, chosen, random=weights is None)
    if tag is not None or weights is not None:
        config["quick_gelu"] = training["quick_gelu"]
    return Definition(config, {key: training[key] for key in _PREPROCESSING})


def _named_after_activation(open_clip: ModuleType, architecture: str) -> bool:
    """Whether the architecture comes in two kinds that differ in nothing but QuickGELU."""
    plain = architecture.removesuffix(_QUICK)
    return plain + _QUICK in open_clip.list_models() and plain in open_clip.list_models()


def _training(
    architecture: str, own: Mapping[str, Any], tags: Mapping[str, Any], *, random: bool
) -> dict[str, Any]:
    """What all of `tags` agree on, and the architecture's own word where they are several.

    Raises:
        InvalidInput: they do not agree, and taking one of them would be a guess.
    """
    ways = [{key: entry.get(key, value) for key, value in own.items()} for entry in tags.values()]
    if len(tags) != 1 and not random:
        ways += [{**way, "quick_gelu": own["quick_gelu"]} for way in ways]
    distinct = list({json.dumps(way, sort_keys=True): way for way in ways}.values())
    if len(distinct) > 1 and not random:
        differing = [key for key in own if len({json.dumps(way[key]) for way in distinct}) > 1]
        raise InvalidInput(
            f"a file of weights does not say its {' and '.join(differing)}, and those published of {architecture} "
            f"differ in that: say which these are, {architecture}/TAG with TAG one of {', '.join(tags)}; or name "
            f"their folder, where it has the {CONFIG}"
        )
    return distinct[0] if len(distinct) == 1 else dict(own)


def _defaults() -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg

    return {key: getattr(PreprocessCfg(), key) for key in _PREPROCESSING}


def described(folder: Path) -> Definition:
    """The model that a folder's `open_clip_config.json` describes, in the layout that the hub has.

    Raises:
        InvalidInput: it is missing, or says what open_clip does not know.
        BundleInvalid: it is no JSON object.
    """
    if not (path := folder / CONFIG).is_file():
        raise InvalidInput(f"{folder} has no {CONFIG}: get it from where the weights come from")
    document = read_object(path)
    try:
        model, preprocessing = document["model_cfg"], document.get("preprocess_cfg", {})
        text = {_OLD_NAMES.get(key, key): value for key, value in model["text_cfg"].items()}
        chosen = {key: preprocessing.get(key, value) for key, value in _defaults().items()}
        _check_fields(path, model["vision_cfg"], text, chosen)
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path} does not describe a model of open_clip: {error!r}; get it again") from error
    return Definition({**model, "text_cfg": text}, chosen)


def _check_fields(
    path: Path, vision: Mapping[str, Any], text: Mapping[str, Any], preprocessing: Mapping[str, Any]
) -> None:
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    unknown = [key for key in vision if key not in CLIPVisionCfg.__dataclass_fields__]
    unknown += [key for key in text if key not in CLIPTextCfg.__dataclass_fields__]
    if unknown:
        raise InvalidInput(f"{path} has {', '.join(unknown)}, which this open_clip does not know: update open_clip")
    for key, allowed in _ALLOWED.items():
        if preprocessing[key] not in allowed:
            raise InvalidInput(f"{path} has {key} {preprocessing[key]!r}; tuwen knows {', '.join(allowed)}")
