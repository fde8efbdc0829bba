"""Hugging Face's ONNX layout, as the transformers.js community publishes it: CLIP, Chinese-CLIP and SigLIP.

    config.json, tokenizer.json, tokenizer_config.json, preprocessor_config.json or processor_config.json
    onnx/vision_model.onnx, onnx/text_model.onnx, and the same with _fp16, _quantized, _uint8, _int8

Images are preprocessed as in transformers; texts are tokenized by `tokenizer.json` without cleaning, as in
transformers.js. 4-bit variants and the joint graph `model.onnx` are not read.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import TOKENIZER, TOWERS, ImageSpec, Precision, Scoring, TextSpec, Tower
from tuwen.errors import BundleInvalid

T = TypeVar("T")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        BundleInvalid: the file is missing, or contains something else; `.where` is the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleInvalid(f"{path} is missing; get it from where the model came from", where=path) from error
    except (OSError, ValueError) as error:
        raise BundleInvalid(f"{path} cannot be read as JSON ({error}); get it again", where=path) from error
    if not isinstance(found, dict):
        raise BundleInvalid(f"{path} does not contain a JSON object; get it again", where=path)
    return found


class Config:
    """The fields of a JSON file; dots separate levels: `text_config.max_position_embeddings`."""

    def __init__(self, path: Path, within: str = "") -> None:
        """Read a file.

        Args:
            path: the file.
            within: the field that contains the others, if there is one.

        Raises:
            BundleInvalid: the file is missing, or not a JSON object.
        """
        self.path = path
        self._values = read_object(path)
        if within:
            self._values = self.need(within, dict)

    def has(self, name: str) -> bool:
        """Whether the field exists and is not null."""
        return self._find(name) is not None

    @overload
    def need(self, name: str, kind: type[T], /) -> T: ...

    @overload
    def need(self, name: str, kind: type[Any], other: type[Any], /) -> Any: ...  # noqa: ANN401

    def need(self, name: str, *kinds: type[Any]) -> Any:
        """The field's value.

        Raises:
            BundleInvalid: it is missing, or of another type; `.where` names file and field.
        """
        value = self._find(name)
        if value is None:
            raise BundleInvalid(f"{self.path} has no {name}, which tuwen needs", where=f"{self.path.name}: {name}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(name, f"not of type {' or '.join(kind.__name__ for kind in kinds)}")
        return value

    def get(self, name: str, default: T) -> T:
        """The field's value, or the format's default for a missing field.

        Raises:
            BundleInvalid: it is of another type than `default`.
        """
        return self.need(name, type(default)) if self.has(name) else default

    def numbers(self, name: str) -> tuple[float, float, float]:
        """Three numbers, one for each channel.

        Raises:
            BundleInvalid: the value is something else.
        """
        values = self.need(name, list)
        if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
            raise self.wrong(name, "not three numbers")
        return (float(values[0]), float(values[1]), float(values[2]))

    def wrong(self, name: str, why: str) -> BundleInvalid:
        """The error to raise for a value that cannot be used."""
        value = self._find(name)
        return BundleInvalid(f"{self.path}: {name} is {value!r}: {why}", value=value, where=f"{self.path.name}: {name}")

    def _find(self, name: str) -> Any:  # noqa: ANN401
        value: Any = self._values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True, slots=True)
class Parts:
    """A model as its layout describes it.

    Attributes:
        source: the checkpoint that it was made from, if stated.
        dim: the length of a vector.
        image: how an image becomes pixels.
        text: how a text becomes tokens.
        scoring: how cosines become probabilities; None if not stated.
        graphs: the ONNX files that tuwen can use.
        tokenizer: its `tokenizer.json`.
    """

    source: str
    dim: int
    image: ImageSpec
    text: TextSpec
    scoring: Scoring | None
    graphs: dict[tuple[Tower, Precision], Path]
    tokenizer: Path


def scoring(config: Config, kind: str) -> Scoring | None:
    """The learned scale, stored as a logarithm as in checkpoints; None if the file has none.

    `logit_scale_init_value` is not used: it is the value that training started from.

    Args:
        config: the model's configuration.
        kind: `softmax` or `sigmoid`.
    """
    needed = ["logit_scale"] if kind == "softmax" else ["logit_scale", "logit_bias"]
    if not all(map(config.has, needed)):
        return None
    scale = math.exp(config.need("logit_scale", float, int))
    bias = float(config.need("logit_bias", float, int)) if kind == "sigmoid" else 0.0
    return Scoring(kind="sigmoid" if kind == "sigmoid" else "softmax", scale=scale, bias=bias)


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The ids of the tokens that pad and end a text."""

    pad_id: int
    end_id: int


def special_tokens(tokenizer: Path) -> SpecialTokens:
    """Read them from `tokenizer.json`, by the names in the `tokenizer_config.json` beside it.

    Raises:
        BundleInvalid: a file, a name or its id is missing.
    """
    config = Config(tokenizer.parent / "tokenizer_config.json")
    ids = _added_tokens(tokenizer)
    end = "eos_token" if config.has("eos_token") else "sep_token"
    return SpecialTokens(*(_id_of(config, field, ids, tokenizer) for field in ("pad_token", end)))


def _id_of(config: Config, field: str, ids: dict[str, int], tokenizer: Path) -> int:
    token = config.need(field, str, dict)
    name = token if isinstance(token, str) else str(token.get("content"))
    if name not in ids:
        raise BundleInvalid(
            f"{tokenizer} has no token {name!r}, which {config.path.name} names as {field}",
            value=name,
            where=f"{config.path.name}: {field}",
        )
    return ids[name]


def _added_tokens(tokenizer: Path) -> dict[str, int]:
    """The special tokens, read without the vocabulary that follows them, which has many megabytes."""
    try:
        text = tokenizer.read_text(encoding="utf-8")
        start = text.index("[", text.index('"added_tokens"'))
        listed, _ = json.JSONDecoder().raw_decode(text, start)
        return {str(token["content"]): int(token["id"]) for token in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleInvalid(
            f"{tokenizer} cannot be read as a tokenizer.json ({error}); get it again", where=tokenizer
        ) from error


MARK = "onnx/vision_model.onnx (Hugging Face)"
CONFIGS = ("config.json", TOKENIZER, "tokenizer_config.json")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""files that describe image preprocessing, see `processor_of`"""

SUFFIXES: dict[Precision, tuple[str, ...]] = {
    "fp32": ("",),
    "fp16": ("_fp16",),
    "int8": ("_quantized", "_uint8", "_int8"),  # signed weights last: ONNX Runtime has no convolution for them
}
"""the suffixes of each precision's graphs, preferred ones first"""
_SCORINGS: dict[str, Literal["softmax", "sigmoid"]] = {
    "clip": "softmax",
    "chinese_clip": "softmax",
    "siglip": "sigmoid",
}
_POSITIONS = {"clip": 77, "chinese_clip": 512, "siglip": 64}
_SIGLIP_WIDTH = 768
"""transformers' default, which its version 4 leaves out of `text_config` and `vision_config`"""
_PROCESSORS = ("CLIP", "ChineseCLIP", "Siglip", "ViT")
_FILTERS: dict[int, Literal["nearest", "lanczos", "bilinear", "bicubic"]] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}


def matches(folder: Path) -> bool:
    """Whether the folder looks like this layout, complete or not."""
    return (folder / "config.json").is_file() and any((folder / "onnx").glob("*.onnx"))


def read(folder: Path) -> Parts:
    """Read the configuration files.

    Raises:
        BundleInvalid: one is missing, or has a value that tuwen does not support.
    """
    config = Config(folder / "config.json")
    family = config.need("model_type", str)
    if family not in _SCORINGS:
        raise config.wrong("model_type", f"tuwen supports {', '.join(_SCORINGS)}")
    graphs = _graphs(folder)
    return Parts(
        source=config.get("_name_or_path", ""),
        dim=_dim(config, family),
        image=image_spec(processor_of(folder)),
        text=_text_spec(folder / TOKENIZER, config, family, graphs),
        scoring=scoring(config, _SCORINGS[family]),
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
            f"{have}; get it too: each tower is run by itself",
            value=missing[0],
            where=folder / "onnx",
        )
    return found


def _dim(config: Config, family: str) -> int:
    """The length of a vector; SigLIP has no projection, so it is the width of the vision tower."""
    if family == "siglip":
        return config.get("vision_config.hidden_size", _SIGLIP_WIDTH)
    return config.need("projection_dim", int)


def processor_of(folder: Path) -> Config:
    """The configuration of image preprocessing, found as transformers finds it.

    Image processors write `preprocessor_config.json`, and up to version 4 so did processors of images and texts.
    Since version 5, the latter write it as a part of `processor_config.json`, which takes precedence; older files of
    this name have no such part.

    Raises:
        BundleInvalid: both files are missing, or the one to use is not a JSON object.
    """
    alone, joint = (folder / name for name in PROCESSORS)
    if joint.is_file() and Config(joint).has("image_processor"):
        return Config(joint, "image_processor")
    return Config(alone)


def image_spec(config: Config) -> ImageSpec:
    """The image spec of a processor's configuration.

    Raises:
        BundleInvalid: a field is missing, or has a value that tuwen does not support.
    """
    _check_processor(config)
    edge, size = _resized(config)
    crop = _crop(config)
    if edge is None and crop not in (None, size):
        raise config.wrong("crop_size", f"tuwen cannot crop an image that was squashed to {size}")
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
        raise config.wrong(field, f"tuwen supports those of {', '.join(_PROCESSORS)}")
    for step in ("do_resize", "do_rescale"):
        if not config.get(step, True):
            raise config.wrong(step, "tuwen always does this step")
    factor = config.get("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-6:
        raise config.wrong("rescale_factor", "tuwen supports 1/255")


def _resized(config: Config) -> tuple[int | None, tuple[int, int] | None]:
    """(shorter side, None), or (None, (height, width)). A number alone is the shorter side if a crop follows."""
    size = config.need("size", int, dict)
    if isinstance(size, int):
        return (size, None) if _crops(config) else (None, (size, size))
    if set(size) == {"shortest_edge"}:
        return config.need("size.shortest_edge", int), None
    if set(size) == {"height", "width"}:
        return None, (config.need("size.height", int), config.need("size.width", int))
    raise config.wrong("size", "tuwen supports shortest_edge, or height and width")


def _crops(config: Config) -> bool:
    """Whether a crop follows; by default CLIP's processors crop, and the others do not."""
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
        raise config.wrong("resample", "tuwen supports 0 to 3 (nearest, lanczos, bilinear, bicubic)")
    return number


def _text_spec(tokenizer: Path, config: Config, family: str, graphs: dict[tuple[Tower, Precision], Path]) -> TextSpec:
    special = special_tokens(tokenizer)
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
    """The shorter of the tokenizer's and the tower's limits; a tokenizer without a limit has a huge number."""
    limit = Config(tokenizer.parent / "tokenizer_config.json").get("model_max_length", 10**30)
    return min(int(limit), config.get("text_config.max_position_embeddings", _POSITIONS[family]))
