"""OpenAI CLIP and the OpenCLIP models, as the package `open_clip` defines them.

Knows how open_clip's parts make a whole: definition, model, tokenizer, preprocessing. Never goes to the network:
weights and what belongs to them come from local files, or weights are random with a seed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from tuwen.bundle.manifest import ImageSpec, Scoring
from tuwen.extras import require
from tuwen.models.openclip_definition import Definition, described, published
from tuwen.models.openclip_model import build, find_weights, load_weights, text_tower
from tuwen.models.openclip_tokens import reading
from tuwen.models.towers import ToPixels, Towers
from tuwen.models.vision_ops import make_torchvision_importable
from tuwen.types import Pixels


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
            Needed where a file could be of published weights that differ in these; OpenAI's archives need none.
        folder: where the files of the hub lie that the architecture names and open_clip does not carry:
            the tokenizer's, and the text tower's `config.json`. None: beside the weights.
        seed: of the random weights.
        overrides: replaces entries of the architecture's configuration, nested ones by nested mappings, e.g.
            `{"vision_cfg": {"layers": 2}}`.

    Raises:
        InvalidInput: no such architecture or tag, the weights are not of this architecture, or what belongs to them
            is not there.
    """
    definition = published(import_open_clip(), architecture, tag, weights)
    _merge(definition.model, overrides or {})
    checkpoint = tag or (weights.name if weights else f"random-{seed}")
    beside = folder or (weights.parent if weights else None)
    return _towers(f"{architecture}/{checkpoint}", definition, weights, beside, seed)


def load_folder(folder: Path, weights: Path | None = None) -> Towers:
    """Load a model from a folder in the layout that open_clip's models have on the hub.

    Args:
        folder: it holds `open_clip_config.json`, the weights, and, where the configuration names them, the files of
            a tokenizer and the `config.json` of a text tower.
        weights: the weights, where they lie elsewhere or are not the only ones.

    Raises:
        InvalidInput: one of them is missing, or does not fit the others.
    """
    import_open_clip()
    definition = described(folder)
    return _towers(folder.resolve().name, definition, weights or find_weights(folder), folder, seed=0)


def _towers(name: str, definition: Definition, weights: Path | None, folder: Path | None, seed: int) -> Towers:
    """What the model and its definition say."""
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
    """The configuration, and that of a text tower of the hub, which is in a file of its own."""
    name = definition.model["text_cfg"].get("hf_model_name")
    return {"open_clip": definition.model, "text": text_tower(name, folder) if name else None}


def rebuilt(blueprint: Mapping[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both modules of a blueprint, with weights that are yet to come."""
    with TemporaryDirectory() as folder:
        if blueprint["text"] is not None:
            (Path(folder) / "config.json").write_text(json.dumps(blueprint["text"]), encoding="utf-8")
        model = build(import_open_clip(), blueprint["open_clip"], 0, Path(folder))
    return _First(model.visual), _First(_short_inputs(model.text))


def import_open_clip() -> ModuleType:
    """The package `open_clip`, importable beside any torch.

    Raises:
        MissingExtra: it is not installed.
    """
    make_torchvision_importable()
    return require("open_clip", extra="export")


def _merge(config: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            _merge(config.setdefault(key, {}), value)
        else:
            config[key] = value


class _First(torch.nn.Module):
    """A tower that gives its pooled output alone: CoCa's towers give their tokens beside it."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output = self.tower(inputs)
        pooled: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return pooled


def _short_inputs(text: Any) -> torch.nn.Module:  # noqa: ANN401  (open_clip's towers share no typed base)
    """Let a text tower take fewer tokens than its context: open_clip cuts its positions but not its causal mask."""
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
