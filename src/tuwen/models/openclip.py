"""OpenAI CLIP and the OpenCLIP models, as the package `open_clip` defines them.

Nothing is downloaded: weights and the files that belong to them are local, or weights are random with a seed.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from tuwen.bundle.huggingface import read_object
from tuwen.bundle.manifest import ImageSpec, Scoring
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import is_torchscript
from tuwen.models.openclip_tokens import reading
from tuwen.models.openclip_weights import build, find_weights, load_weights, text_tower
from tuwen.models.torchvision import import_open_clip
from tuwen.models.towers import ToPixels, Towers
from tuwen.types import Pixels

CONFIG = "open_clip_config.json"
"""the file that open_clip writes beside weights on the hub"""

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
    """The definition of an architecture in open_clip, with the preprocessing and activation of these weights.

    Raises:
        InvalidInput: an unknown architecture or tag, or the tag is needed and not given.
    """
    config = open_clip.get_model_config(architecture)
    if config is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=5, cutoff=0.4)
        hint = f"similar names: {', '.join(near)}"
        raise InvalidInput(f"open_clip has no architecture {architecture!r}; {hint}", value=architecture, hint=hint)
    tags = {
        name: open_clip.get_pretrained_cfg(architecture, name)
        for name in open_clip.list_pretrained_tags_by_model(architecture)
    }
    if tag is None and weights is not None and is_torchscript(weights):
        tag = "openai"  # only OpenAI published TorchScript archives
    if tag is not None and tag not in tags:
        known = ", ".join(tags) or "none"
        raise InvalidInput(
            f"open_clip has no tag {tag!r} for {architecture}; known tags: {known}", value=tag, where=architecture
        )
    chosen = tags if tag is None else {tag: tags[tag]}
    own = {**_defaults(), "quick_gelu": bool(config.get("quick_gelu"))}
    if tag is None and _named_after_activation(open_clip, architecture):
        chosen = {name: {**entry, "quick_gelu": own["quick_gelu"]} for name, entry in chosen.items()}
    training = _training(architecture, own, chosen, random=weights is None)
    if tag is not None or weights is not None:
        config["quick_gelu"] = training["quick_gelu"]
    return Definition(config, {key: training[key] for key in _PREPROCESSING})


def _named_after_activation(open_clip: ModuleType, architecture: str) -> bool:
    """Whether the architecture comes in two variants that only differ in QuickGELU."""
    plain = architecture.removesuffix(_QUICK)
    return plain + _QUICK in open_clip.list_models() and plain in open_clip.list_models()


def _training(architecture: str, own: Mapping[str, Any], tags: Mapping[str, Any], *, random: bool) -> dict[str, Any]:
    """The preprocessing and activation that all of `tags` share.

    Raises:
        InvalidInput: they differ, so that choosing one would be a guess.
    """
    ways = [{key: entry.get(key, value) for key, value in own.items()} for entry in tags.values()]
    if len(tags) != 1 and not random:
        ways += [{**way, "quick_gelu": own["quick_gelu"]} for way in ways]
    distinct = list({json.dumps(way, sort_keys=True): way for way in ways}.values())
    if len(distinct) > 1 and not random:
        differing = [key for key in own if len({json.dumps(way[key]) for way in distinct}) > 1]
        hint = (
            f"write {architecture}/TAG, with TAG one of {', '.join(tags)}; or give their folder, if it has a {CONFIG}"
        )
        raise InvalidInput(
            f"the file does not record {' and '.join(differing)}, in which the published weights of {architecture} "
            f"differ: {hint}",
            value=differing,
            where=architecture,
            hint=hint,
        )
    return distinct[0] if len(distinct) == 1 else dict(own)


def _defaults() -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg

    return {key: getattr(PreprocessCfg(), key) for key in _PREPROCESSING}


def described(folder: Path) -> Definition:
    """The definition in a folder's `open_clip_config.json`.

    Raises:
        InvalidInput: the file is missing, or has fields that open_clip does not know.
        BundleInvalid: it is not a JSON object.
    """
    if not (path := folder / CONFIG).is_file():
        raise InvalidInput(f"{folder} has no {CONFIG}; get it from where the weights come from", where=folder)
    document = read_object(path)
    try:
        model, preprocessing = document["model_cfg"], document.get("preprocess_cfg", {})
        text = {_OLD_NAMES.get(key, key): value for key, value in model["text_cfg"].items()}
        chosen = {key: preprocessing.get(key, value) for key, value in _defaults().items()}
        _check_fields(path, model["vision_cfg"], text, chosen)
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{path} does not describe an open_clip model: {error!r}; get it again", where=path
        ) from error
    return Definition({**model, "text_cfg": text}, chosen)


def _check_fields(
    path: Path, vision: Mapping[str, Any], text: Mapping[str, Any], preprocessing: Mapping[str, Any]
) -> None:
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    unknown = [key for key in vision if key not in CLIPVisionCfg.__dataclass_fields__]
    unknown += [key for key in text if key not in CLIPTextCfg.__dataclass_fields__]
    if unknown:
        hint = "update open_clip"
        raise InvalidInput(
            f"{path} has fields that this open_clip does not know ({', '.join(unknown)}): {hint}",
            value=unknown,
            where=path,
            hint=hint,
        )
    for key, allowed in _ALLOWED.items():
        if preprocessing[key] not in allowed:
            raise InvalidInput(
                f"{path}: unsupported {key} {preprocessing[key]!r}; supported are {', '.join(allowed)}",
                value=preprocessing[key],
                where=path,
            )


def load(
    architecture: str,
    weights: Path | None = None,
    *,
    tag: str | None = None,
    folder: Path | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> Towers:
    """Build an open_clip model with weights from a file, or with random ones.

    Args:
        architecture: open_clip's name, e.g. `ViT-B-32`.
        weights: a local checkpoint (`.bin`, `.pt`, `.safetensors`; OpenAI's TorchScript archives too), read
            without running any code in it. None: random weights drawn with `seed`.
        tag: which published weights these are, e.g. `laion2b_s34b_b79k`; it decides preprocessing and QuickGELU.
            Needed if published weights of the architecture differ in these; OpenAI's archives need none.
        folder: the folder of files that the architecture refers to and that are not part of open_clip: the
            tokenizer's, and the text tower's `config.json`. None: beside the weights.
        seed: the seed of random weights.
        overrides: replaces entries of the architecture's configuration, nested ones by nested mappings, e.g.
            `{"vision_cfg": {"layers": 2}}`.

    Raises:
        InvalidInput: an unknown architecture or tag, weights of another architecture, or a missing file.
    """
    definition = published(import_open_clip(), architecture, tag, weights)
    _merge(definition.model, overrides or {})
    checkpoint = tag or (weights.name if weights else f"random-{seed}")
    beside = folder or (weights.parent if weights else None)
    return _towers(f"{architecture}/{checkpoint}", definition, weights, beside, seed)


def load_folder(folder: Path, weights: Path | None = None) -> Towers:
    """Load a model from a folder, as models of open_clip are on the hub.

    Args:
        folder: contains `open_clip_config.json`, the weights, and, if the configuration refers to them, the files of
            a tokenizer and the `config.json` of a text tower.
        weights: the weights, if they are elsewhere or there are several.

    Raises:
        InvalidInput: one of these is missing, or does not fit the others.
    """
    import_open_clip()
    definition = described(folder)
    return _towers(folder.resolve().name, definition, weights or find_weights(folder), folder, seed=0)


def _towers(name: str, definition: Definition, weights: Path | None, folder: Path | None, seed: int) -> Towers:
    """The towers of a definition."""
    text = reading(definition.model["text_cfg"], folder)
    model = build(import_open_clip(), definition.model, seed, folder)
    if weights is not None:
        load_weights(model, weights, name.partition("/")[0])
    preprocessing = {**definition.preprocessing, "size": model.visual.image_size}
    return Towers(
        name=name,
        family="openclip",
        source=f"openclip:{name}",
        vision=_First(model.visual),
        text=_First(_short_inputs(model.text)),
        image_spec=_image_spec(preprocessing),
        text_spec=text.spec,
        scoring=_scoring(model),
        tokenizer=text.tokenizer,
        weights={key: tensor for key, tensor in model.state_dict().items() if key.startswith(("visual.", "text."))},
        to_pixels=_reference_pixels(preprocessing),
        to_tokens=text.to_tokens,
        blueprint=_blueprint(definition, folder),
    )


def _blueprint(definition: Definition, folder: Path | None) -> dict[str, Any]:
    """The model's configuration, and that of a text tower of transformers."""
    name = definition.model["text_cfg"].get("hf_model_name")
    return {"open_clip": definition.model, "text": text_tower(name, folder) if name else None}


def rebuilt(blueprint: Mapping[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both modules of a blueprint, with random weights."""
    with TemporaryDirectory() as folder:
        if blueprint["text"] is not None:
            (Path(folder) / "config.json").write_text(json.dumps(blueprint["text"]), encoding="utf-8")
        model = build(import_open_clip(), blueprint["open_clip"], 0, Path(folder))
    return _First(model.visual), _First(_short_inputs(model.text))


def _merge(config: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            _merge(config.setdefault(key, {}), value)
        else:
            config[key] = value


class _First(torch.nn.Module):
    """A tower that returns its pooled output only; CoCa's towers also return their tokens."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output = self.tower(inputs)
        pooled: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return pooled


def _short_inputs(text: Any) -> torch.nn.Module:  # noqa: ANN401  (open_clip's towers share no typed base)
    """Let a text tower take fewer tokens than its context: open_clip slices its positions, but not its causal mask."""
    if hasattr(text, "_embeds"):
        embed = text._embeds

        def embed_short(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            states, mask = embed(ids)
            length = states.shape[1]
            return states, None if mask is None else mask[..., :length, :length]

        text._embeds = embed_short
    tower: torch.nn.Module = text
    return tower


def _image_spec(preprocessing: Mapping[str, Any]) -> ImageSpec:
    size = preprocessing["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mode = {"shortest": "shortest", "squash": "squash", "longest": "pad"}[preprocessing["resize_mode"]]
    # open_clip's own resizing, for `longest` and for sizes that are not square, rounds where torchvision's cuts.
    own = mode == "pad" or (mode == "shortest" and height != width)
    return ImageSpec(
        size=(height, width),
        resize=mode,  # type: ignore[arg-type]  # one of the three, by the table above
        interpolation="bilinear" if preprocessing["interpolation"] == "bilinear" else "bicubic",
        crop_rounding="round",
        resize_rounding="round" if own else "floor",
        fill=preprocessing["fill_color"],
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
    )


def _reference_pixels(preprocessing: Mapping[str, Any]) -> ToPixels:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)

    def to_pixels(images: Sequence[Image.Image]) -> Pixels:
        return np.stack([transform(image).numpy() for image in images])

    return to_pixels


def _scoring(model: Any) -> Scoring:  # noqa: ANN401  (open_clip's models share no typed base)
    scale = float(model.logit_scale.detach().exp().reshape(()))
    if model.logit_bias is None:
        return Scoring(kind="softmax", scale=scale)
    return Scoring(kind="sigmoid", scale=scale, bias=float(model.logit_bias.detach().reshape(())))
