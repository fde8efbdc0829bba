"""immich's layout: open_clip models with each tower in a folder of its own.

    config.json (open_clip's model configuration), visual/model.onnx, visual/preprocess_cfg.json
    textual/model.onnx, textual/tokenizer.json, textual/tokenizer_config.json

Preprocessing and cleaning are open_clip's, which trained and exported the models. These graphs take batches of 1 and
texts of the full context length.
"""

from pathlib import Path
from typing import Literal

from tuwen.bundle import huggingface as parts
from tuwen.bundle.graph import read_graph
from tuwen.bundle.huggingface import Config, Parts
from tuwen.bundle.manifest import TOKENIZER, Cleaning, ImageSpec, TextSpec

MARK = "visual/model.onnx (immich)"

_RESIZES: dict[str, Literal["shortest", "squash", "pad"]] = {
    "shortest": "shortest",
    "squash": "squash",
    "longest": "pad",
}
_FILTERS: dict[str, Literal["bicubic", "bilinear"]] = {"bicubic": "bicubic", "bilinear": "bilinear"}
_CLEANINGS: dict[str, Cleaning] = {
    "lower": "ftfy_html",
    "whitespace": "ftfy_html_cased",
    "canonicalize": "ftfy_canonicalize",
}


def matches(folder: Path) -> bool:
    """Whether the folder looks like this layout, complete or not."""
    return any((folder / name / "model.onnx").is_file() for name in ("visual", "textual"))


def read(folder: Path) -> Parts:
    """Read the configuration files.

    Raises:
        BundleInvalid: one is missing, or has a value that tuwen does not support.
    """
    config = Config(folder / "config.json")
    kind = "sigmoid" if config.has("init_logit_bias") else "softmax"
    tokenizer = folder / "textual" / TOKENIZER
    return Parts(
        source=config.get("_name_or_path", ""),
        dim=config.need("embed_dim", int),
        image=_image_spec(Config(folder / "visual" / "preprocess_cfg.json")),
        text=_text_spec(config, tokenizer, folder / "textual" / "model.onnx"),
        scoring=parts.scoring(config, kind),
        graphs={
            ("vision", "fp32"): folder / "visual" / "model.onnx",
            ("text", "fp32"): folder / "textual" / "model.onnx",
        },
        tokenizer=tokenizer,
    )


def _image_spec(config: Config) -> ImageSpec:
    size = config.need("size", int, list)
    height, width = (size, size) if isinstance(size, int) or len(size) != 2 else size
    mode = config.get("resize_mode", "shortest")  # open_clip's default, for files from before this field
    interpolation = config.need("interpolation", str)
    if mode not in _RESIZES:
        raise config.wrong("resize_mode", f"tuwen supports {', '.join(_RESIZES)}")
    if interpolation not in _FILTERS:
        raise config.wrong("interpolation", f"tuwen supports {', '.join(_FILTERS)}")
    own = mode == "longest" or (mode == "shortest" and height != width)  # open_clip's resizing, not torchvision's
    return ImageSpec(
        size=(height, width),
        resize=_RESIZES[mode],
        interpolation=_FILTERS[interpolation],
        resize_rounding="round" if own else "floor",
        fill=config.get("fill_color", 0),
        mean=config.numbers("mean"),
        std=config.numbers("std"),
    )


def _text_spec(config: Config, tokenizer: Path, graph: Path) -> TextSpec:
    special = parts.special_tokens(tokenizer)
    mask = any("mask" in value.name for value in read_graph(graph).inputs)
    return TextSpec(
        cleaning="none" if mask else _cleaning(config),
        context_length=config.get("text_cfg.context_length", 77),  # open_clip's default
        pad_id=special.pad_id,
        pad_to="context",
        end_id=special.end_id,
        mask=mask,
        cut_exact=False,
    )


def _cleaning(config: Config) -> Cleaning:
    """open_clip's cleaning: its own tokenizer lowers case, one from Hugging Face does not by default.

    Not used for graphs that take a mask: these are M-CLIP's text towers, beside the configuration of another model,
    and M-CLIP cleans nothing.
    """
    field = "text_cfg.tokenizer_kwargs"
    options = config.get(field, dict[str, str]())
    own = "whitespace" if config.has("text_cfg.hf_tokenizer_name") else "lower"
    if set(options) - {"clean"} or options.get("clean", own) not in _CLEANINGS:
        raise config.wrong(field, f"tuwen supports clean, one of {', '.join(_CLEANINGS)}")
    return _CLEANINGS[options.get("clean", own)]
