"""Hugging Face's ONNX layout, as the transformers.js community publishes it: CLIP, Chinese-CLIP and SigLIP.

    config.json, tokenizer.json, tokenizer_config.json, preprocessor_config.json or processor_config.json
    onnx/vision_model.onnx, onnx/text_model.onnx, and the same with _fp16, _quantized, _uint8, _int8

Preprocessing is transformers'; the tokenizer does what its `tokenizer.json` says and no cleaning before it, as
transformers.js runs it. 4-bit variants and the joined graph `model.onnx` are not read.
"""

from pathlib import Path
from typing import Literal

from tuwen.bundle import parts
from tuwen.bundle.config import Config
from tuwen.bundle.graph import read_graph
from tuwen.bundle.layout import TOKENIZER, TOWERS, Tower
from tuwen.bundle.manifest import ImageSpec, Precision, TextSpec
from tuwen.bundle.parts import Parts
from tuwen.errors import BundleInvalid

MARK = "onnx/vision_model.onnx (Hugging Face)"
CONFIGS = ("config.json", TOKENIZER, "tokenizer_config.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Which of them says how pictures are made: see `processor_of`."""

SUFFIXES: dict[Precision, tuple[str, ...]] = {
    "fp32": ("",),
    "fp16": ("_fp16",),
    "int8": ("_quantized", "_uint8", "_int8"),  # signed weights last: ONNX Runtime has no convolution for them
}
"""How the graphs of a precision end, what is taken first to begin with."""
_SCORINGS: dict[str, Literal["softmax", "sigmoid"]] = {
    "clip": "softmax",
    "chinese_clip": "softmax",
    "siglip": "sigmoid",
}
_POSITIONS = {"clip": 77, "chinese_clip": 512, "siglip": 64}
_SIGLIP_WIDTH = 768
"""As usual in transformers, whose version 4 leaves it out of `text_config` and `vision_config`."""
_PROCESSORS = ("CLIP", "ChineseCLIP", "Siglip", "ViT")
_FILTERS: dict[int, Literal["nearest", "lanczos", "bilinear", "bicubic"]] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}


def is_here(folder: Path) -> bool:
    """Whether the folder looks like this layout, complete or not."""
    return (folder / "config.json").is_file() and any((folder / "onnx").glob("*.onnx"))


def read(folder: Path) -> Parts:
    """Read the configuration files.

    Raises:
        BundleInvalid: one is missing, or says what tuwen does not know.
    """
    config = Config(folder / "config.json")
    family = config.need("model_type", str)
    if family not in _SCORINGS:
        raise config.wrong("model_type", f"tuwen knows {', '.join(_SCORINGS)}")
    graphs = _graphs(folder)
    return Parts(
        source=config.get("_name_or_path", ""),
        dim=_dim(config, family),
        image=image_spec(processor_of(folder)),
        text=_text_spec(folder / TOKENIZER, config, family, graphs),
        scoring=parts.scoring(config, _SCORINGS[family]),
        graphs=graphs,
        tokenizer=folder / TOKENIZER,
    )


def _graphs(folder: Path) -> dict[tuple[Tower, Precision], Path]:
    found: dict[tuple[Tower, Precision], Path] = {}
    for tower in TOWERS:
        for precision, suffixes in SUFFIXES.items():
            paths = (folder / "onnx" / f"{tower}_model{suffix}.onnx" for suffix in suffixes)
            path = next((path for path in paths if path.is_file()), None)
            if path is not None:
                found[tower, precision] = path
    missing = [tower for tower in TOWERS if not any(tower == known for known, _ in found)]
    if missing:
        have = ", ".join(sorted(path.name for path in (folder / "onnx").glob("*.onnx")))
        raise BundleInvalid(
            f"{folder / 'onnx'} has no {missing[0]}_model.onnx (nor its _fp16, _quantized, _uint8 or _int8), only "
            f"{have}; get it too: each tower is run by itself"
        )
    return found


def _dim(config: Config, family: str) -> int:
    """SigLIP has no projection: a vector is as long as the vision tower is wide."""
    if family == "siglip":
        return config.get("vision_config.hidden_size", _SIGLIP_WIDTH)
    return config.need("projection_dim", int)


def processor_of(folder: Path) -> Config:
    """What says how pictures are made, found as transformers finds it.

    Its processors for pictures alone write `preprocessor_config.json`, and so did all of them up to its version 4.
    Since version 5, those for pictures and texts write it as a part of `processor_config.json`, which goes first;
    older files of this name have no such part.

    Raises:
        BundleInvalid: neither file is there, or the one that counts is no JSON object.
    """
    alone, joint = (folder / name for name in PROCESSORS)
    if joint.is_file() and Config(joint).has("image_processor"):
        return Config(joint, "image_processor")
    return Config(alone)


def image_spec(config: Config) -> ImageSpec:
    """What a processor's configuration says.

    Raises:
        BundleInvalid: a field is missing, or says what tuwen does not know.
    """
    _check_processor(config)
    edge, size = _resized(config)
    crop = _crop(config)
    if edge is None and crop not in (None, size):
        raise config.wrong("crop_size", f"tuwen cannot crop a picture that was squashed to {size}")
    if edge is not None and (crop is None or edge < max(crop)):
        raise config.wrong("size", f"the shorter side to {edge} needs a centre crop within it, not {crop}")
    final = size if crop is None else crop
    assert final is not None  # one of the two errors above
    return ImageSpec(
        size=final,
        resize="squash" if edge is None else "shortest",
        interpolation=_FILTERS[_resample(config)],
        crop_rounding="floor",
        resize_rounding="floor",
        edge=None if edge is None or final == (edge, edge) else edge,
        mean=config.numbers("image_mean") if config.get("do_normalize", True) else (0.0, 0.0, 0.0),
        std=config.numbers("image_std") if config.get("do_normalize", True) else (1.0, 1.0, 1.0),
    )


def _check_processor(config: Config) -> None:
    field = "image_processor_type" if config.has("image_processor_type") else "feature_extractor_type"
    name = config.need(field, str).removesuffix("Fast").removesuffix("Pil")
    kind = name.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if kind not in _PROCESSORS:
        raise config.wrong(field, f"tuwen knows those of {', '.join(_PROCESSORS)}")
    for step in ("do_resize", "do_rescale"):
        if not config.get(step, True):
            raise config.wrong(step, "tuwen always does")
    factor = config.get("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-6:
        raise config.wrong("rescale_factor", "tuwen knows 1/255")


def _resized(config: Config) -> tuple[int | None, tuple[int, int] | None]:
    """(shorter side, None), or (None, (height, width)). A bare number is the shorter side where a crop follows."""
    size = config.need("size", int, dict)
    if isinstance(size, int):
        return (size, None) if _crops(config) else (None, (size, size))
    if set(size) == {"shortest_edge"}:
        return config.need("size.shortest_edge", int), None
    if set(size) == {"height", "width"}:
        return None, (config.need("size.height", int), config.need("size.width", int))
    raise config.wrong("size", "tuwen knows shortest_edge, or height and width")


def _crops(config: Config) -> bool:
    """What transformers does where the field is absent: CLIP's processors crop, the others have no such step."""
    kind = config.get("image_processor_type", "") or config.get("feature_extractor_type", "")
    return config.get("do_center_crop", "CLIP" in kind)


def _crop(config: Config) -> tuple[int, int] | None:
    if not _crops(config):
        return None
    size = config.need("crop_size", int, dict)
    if isinstance(size, int):
        return size, size
    return config.need("crop_size.height", int), config.need("crop_size.width", int)


def _resample(config: Config) -> int:
    number = config.need("resample", int)
    if number not in _FILTERS:
        raise config.wrong("resample", "tuwen knows 0 to 3 (nearest, lanczos, bilinear, bicubic)")
    return number


def _text_spec(
    tokenizer: Path, config: Config, family: str, graphs: dict[tuple[Tower, Precision], Path]
) -> TextSpec:
    special = parts.special_tokens(tokenizer)
    graph = next(path for (tower, _), path in graphs.items() if tower == "text")
    return TextSpec(
        cleaning="none",
        context_length=_context_length(tokenizer, config, family),
        pad_id=special.pad_id,
        pad_to="context" if family == "siglip" else "longest",
        end_id=special.end_id,
        mask=any("mask" in value.name for value in read_graph(graph).inputs),
        cut_exact=False,
    )


def _context_length(tokenizer: Path, config: Config, family: str) -> int:
    """What tokenizer and tower both allow. A tokenizer without a limit says so by an astronomic number."""
    limit = Config(tokenizer.parent / "tokenizer_config.json").get("model_max_length", 10**30)
    return min(int(limit), config.get("text_config.max_position_embeddings", _POSITIONS[family]))
