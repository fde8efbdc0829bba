"""OpenAI CLIP and the OpenCLIP models, as the package `open_clip` defines them.

Knows open_clip's configurations, checkpoints and tokenizers. Never goes to the network: weights come from a local
file, or are random with a seed.
"""

import difflib
import gzip
import json
import zipfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.errors import InvalidInput
from tuwen.extras import require
from tuwen.models.towers import ToPixels, ToTokens, Towers
from tuwen.models.vision_ops import make_torchvision_importable
from tuwen.prepare.texts import bpe_tokenizer_json
from tuwen.types import Pixels, Tokens

_CLIP_END = 49407  # the last entry of CLIP's vocabulary; pooling finds it as the largest id
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")


def load(
    architecture: str,
    weights: Path | None = None,
    *,
    tag: str | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> Towers:
    """Build an open_clip model with weights from a file, or with random ones.

    Args:
        architecture: open_clip's name, e.g. `ViT-B-32`.
        weights: a local checkpoint (`.bin`, `.pt`, `.safetensors`; OpenAI's TorchScript archives too), read
            without running any code in it. None: random weights drawn with `seed`.
        tag: which published weights these are, e.g. `laion2b_s34b_b79k`; it decides preprocessing and QuickGELU.
            Needed only where the architecture's published weights do not agree on the preprocessing.
        seed: of the random weights.
        overrides: replaces entries of the architecture's configuration, nested ones by nested mappings, e.g.
            `{"vision_cfg": {"layers": 2}}`.

    Raises:
        InvalidInput: no such architecture or tag, or the weights are not of this architecture.
    """
    open_clip = import_open_clip()
    config, preprocessing = _configuration(open_clip, architecture, tag, weights)
    _merge(config, overrides or {})
    model = _build(open_clip, config, seed)
    if weights is not None:
        _load_weights(model, weights, architecture)
    preprocessing["size"] = model.visual.image_size
    checkpoint = tag or (weights.name if weights else f"random-{seed}")
    return _towers(f"{architecture}/{checkpoint}", model, preprocessing, config["text_cfg"])


def _towers(name: str, model: Any, preprocessing: Mapping[str, Any], text_config: Mapping[str, Any]) -> Towers:  # noqa: ANN401
    """What the model and its configuration say."""
    tokenizer, to_tokens = _tokenizer(name, text_config)
    return Towers(
        name=name,
        family="openclip",
        source=f"openclip:{name}",
        vision=_First(model.visual),
        text=_First(_short_inputs(model.text)),
        image_spec=_image_spec(preprocessing),
        text_spec=_text_spec(text_config),
        scoring=_scoring(model),
        tokenizer=tokenizer,
        weights={key: tensor for key, tensor in model.state_dict().items() if key.startswith(("visual.", "text."))},
        to_pixels=_reference_pixels(preprocessing),
        to_tokens=to_tokens,
    )


def import_open_clip() -> ModuleType:
    """The package `open_clip`, importable beside any torch.

    Raises:
        MissingExtra: it is not installed.
    """
    make_torchvision_importable()
    return require("open_clip", extra="export")


def _configuration(
    open_clip: ModuleType, architecture: str, tag: str | None, weights: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's configuration and its preprocessing, as the checkpoint or the published tag says."""
    config = open_clip.get_model_config(architecture)
    if config is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=5, cutoff=0.4)
        raise InvalidInput(f"open_clip has no architecture {architecture!r}; the nearest: {', '.join(near)}")
    published = {
        name: open_clip.get_pretrained_cfg(architecture, name)
        for name in open_clip.list_pretrained_tags_by_model(architecture)
    }
    if tag is not None:
        if tag not in published:
            known = ", ".join(published) or "none"
            raise InvalidInput(f"open_clip knows no weights {tag!r} of {architecture}; known: {known}")
        config["quick_gelu"] = bool(published[tag].get("quick_gelu", config.get("quick_gelu", False)))
    elif weights is not None and _is_torchscript(weights):
        config["quick_gelu"] = True  # only OpenAI published TorchScript archives, all trained with QuickGELU
    chosen = {tag: published[tag]} if tag else published
    return config, _preprocessing(architecture, chosen)


def _preprocessing(architecture: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """What all of `published` agree on, over open_clip's defaults.

    Raises:
        InvalidInput: they do not agree, and taking one of them would be a guess.
    """
    from open_clip.transform import PreprocessCfg

    defaults = {key: getattr(PreprocessCfg(), key) for key in _PREPROCESSING}
    ways = {
        name: {key: entry.get(key, defaults[key]) for key in _PREPROCESSING} for name, entry in published.items()
    }
    distinct = list({json.dumps(way, sort_keys=True): way for way in ways.values()}.values())
    if len(distinct) > 1:
        raise InvalidInput(
            f"the published weights of {architecture} differ in preprocessing: say which these are, one of "
            f"{', '.join(published)}"
        )
    return distinct[0] if distinct else defaults


def _merge(config: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            _merge(config.setdefault(key, {}), value)
        else:
            config[key] = value


def _build(open_clip: ModuleType, config: Mapping[str, Any], seed: int) -> Any:  # noqa: ANN401  (untyped models)
    """The model with random weights, on the CPU, with its text tower apart (`force_custom_text`)."""
    arguments = deepcopy(dict(config))
    arguments.pop("custom_text", None)
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False  # True would ask the hub
    built = open_clip.CoCa if "multimodal_cfg" in arguments else open_clip.CustomTextCLIP
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = built(**arguments)
    return model.eval()


def _load_weights(model: torch.nn.Module, weights: Path, architecture: str) -> None:
    from open_clip.factory import load_checkpoint
    from open_clip.model import convert_to_custom_text_state_dict

    try:
        if _is_torchscript(weights):
            state = torch.jit.load(str(weights), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
            for key in ("input_resolution", "context_length", "vocab_size"):
                state.pop(key, None)
            model.load_state_dict(convert_to_custom_text_state_dict(state))
        else:
            load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except FileNotFoundError as error:
        raise InvalidInput(f"there are no weights at {weights}") from error
    except UnpicklingError as error:
        raise InvalidInput(
            f"{weights} holds more than tensors, and is not read because loading it could run code: "
            "save its state dict alone, or as .safetensors"
        ) from error
    except (RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()
        raise InvalidInput(f"{weights} does not fit {architecture}: {' '.join(first[:2])[:300]}") from error


def _is_torchscript(weights: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip that carries code beside its tensors."""
    if not zipfile.is_zipfile(weights):
        return False
    with zipfile.ZipFile(weights) as archive:
        return any("/code/" in name for name in archive.namelist())


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


def _tokenizer(name: str, text_config: Mapping[str, Any]) -> tuple[bytes, ToTokens]:
    """The `tokenizer.json` and open_clip's own tokenizer beside it.

    Raises:
        InvalidInput: the architecture's tokenizer is not part of the package.
    """
    if text_config.get("hf_tokenizer_name") or "siglip" in name.lower():
        raise InvalidInput(
            f"{name} needs the tokenizer {text_config.get('hf_tokenizer_name', 'of SigLIP')}, "
            "which open_clip does not carry; choose an architecture with CLIP's own tokenizer"
        )
    from open_clip.tokenizer import SimpleTokenizer, default_bpe

    reference = SimpleTokenizer(
        context_length=text_config.get("context_length", 77), **(text_config.get("tokenizer_kwargs") or {})
    )
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]

    def to_tokens(texts: Sequence[str]) -> Tokens:
        ids = reference(list(texts)).numpy()
        padding = (ids[:, ::-1] != 0).argmax(axis=1)  # 0 is also the id of "!", but no text ends with that
        return Tokens(ids, lengths=ids.shape[1] - padding)

    return bpe_tokenizer_json(merges), to_tokens


def _text_spec(text_config: Mapping[str, Any]) -> TextSpec:
    return TextSpec(
        cleaning="ftfy_html",
        context_length=text_config.get("context_length", 77),
        pad_id=0,
        pad_to="context",
        end_id=_CLIP_END,
        mask=False,
        cut_exact=False,
    )


def _scoring(model: Any) -> Scoring:  # noqa: ANN401  (open_clip's models share no typed base)
    scale = float(model.logit_scale.detach().exp().reshape(()))
    if model.logit_bias is None:
        return Scoring(kind="softmax", scale=scale)
    return Scoring(kind="sigmoid", scale=scale, bias=float(model.logit_bias.detach().reshape(())))
