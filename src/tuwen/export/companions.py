"""The files that other readers of this layout want beside the graphs: what transformers.js and the like look for.

tuwen itself reads none of them: `tuwen.json` says all it needs.
"""

import json
import math
from pathlib import Path
from typing import Any

from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec

_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


def write_companions(folder: Path, dim: int, image: ImageSpec, text: TextSpec, scoring: Scoring) -> None:
    """Write `config.json`, `preprocessor_config.json` and `tokenizer_config.json` into a bundle."""
    contents = {
        "config.json": _config(dim, scoring),
        "preprocessor_config.json": _preprocessor(image),
        "tokenizer_config.json": _tokenizer(text),
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _config(dim: int, scoring: Scoring) -> dict[str, Any]:
    """`clip` for softmax and `siglip` for sigmoid: the types whose towers these readers load one by one."""
    kind = "clip" if scoring.kind == "softmax" else "siglip"
    return {"model_type": kind, "projection_dim": dim, "logit_scale_init_value": math.log(scoring.scale)}


def _preprocessor(image: ImageSpec) -> dict[str, Any]:
    height, width = image.size
    exact = {"height": height, "width": width}
    crops = image.resize == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image.edge or max(height, width)} if crops else exact,
        "resample": _RESAMPLE[image.interpolation],
        "do_center_crop": crops,
        "crop_size": exact,
        "do_pad": image.resize == "pad",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def _tokenizer(text: TextSpec) -> dict[str, Any]:
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": text.context_length}
