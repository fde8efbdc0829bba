"""The manifest `tuwen.json`: every fact about a model that a later stage needs, and the fingerprint over them."""

import hashlib
import json
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Precision = Literal["fp32", "fp16", "int8"]
"""the precisions of a bundle's files, best first"""

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

FOREIGN = "foreign"
"""the family of models in other layouts"""

FP16_OVERFLOWS = "_fp16_overflows"
"""the suffix of a fact that lists a tower's nodes whose results fp16 cannot hold; it then runs in fp32 or bf16"""

REDUCED_DECODING = "reduced_decoding_worst_cosine"
"""a fact: the worst cosine between vectors of photos decoded at reduced and at full scale, measured at export"""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


Cleaning = Literal["ftfy_html", "ftfy_html_cased", "canonicalize", "ftfy_canonicalize", "unpunctuated", "none"]
"""the cleaning of a text before the tokenizer"""


class Facts(BaseModel):
    """The base of all parts of the manifest: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ImageSpec(Facts):
    """How an image becomes pixels."""

    size: tuple[int, int]
    """height and width of the tower's input, in pixels."""
    resize: Literal["shortest", "squash", "pad"]
    """`shortest`: the shorter side to size, then a centre crop; `squash`: both sides to size, whatever the
    ratio; `pad`: the longer side to size, then a border of `fill`."""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] = "bicubic"
    """the resampling filter, as Pillow computes it, always with antialiasing."""
    crop_rounding: Literal["round", "floor"] = "round"
    """where a centre crop of odd margin starts: `round` as torchvision and open_clip, `floor` as transformers."""
    resize_rounding: Literal["floor", "round"] = "floor"
    """how the longer side of `shortest` is rounded: `floor` as torchvision and transformers, `round` as PaddleClas, and
    as open_clip if size is not square."""
    edge: int | None = None
    """the length that `shortest` gives the shorter side, if it differs from size (transformers' `shortest_edge`); None:
    size."""
    fill: int = 0
    """the grey value (0-255) of the border that `pad` adds."""
    mean: tuple[float, float, float]
    """subtracted from each channel after scaling to 0..1, in RGB order."""
    std: tuple[float, float, float]
    """each channel is divided by this."""

    @model_validator(mode="after")
    def _shorter_side_is_known(self) -> Self:
        floored = self.resize == "shortest" and self.resize_rounding == "floor"
        if floored and self.edge is None and self.size[0] != self.size[1]:
            raise ValueError("a size that is not square needs edge, or resize_rounding round")
        if self.edge is not None and (not floored or self.edge < max(self.size)):
            raise ValueError("edge belongs to resize shortest with resize_rounding floor, and is at least size")
        return self


class TextSpec(Facts):
    """How a text becomes tokens: what `tokenizer.json` cannot contain."""

    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages that the model was trained on; empty if not known."""
    cleaning: Cleaning
    """before the tokenizer: `ftfy_html` as OpenAI CLIP and open_clip's own tokenizer (ftfy, HTML entities twice,
    white space, lower case); `ftfy_html_cased` the same without lower case, as open_clip does for tokenizers of
    Hugging Face (XLM-R); `canonicalize` as SigLIP in big_vision (no punctuation, lower case, white space);
    `ftfy_canonicalize` ftfy and HTML entities before that, as open_clip does for SigLIP; `unpunctuated` as
    transformers' `SiglipTokenizer`, which removes `_` where the others replace it by a space."""
    context_length: int
    """the maximum number of tokens of a text, including start and end token."""
    pad_id: int
    """the id of padding."""
    pad_to: Literal["longest", "context"]
    """`longest`: to the batch's longest text; `context`: always to `context_length`."""
    end_id: int | None
    """the id of the end token, which truncation keeps; None if the tokenizer adds none."""
    mask: bool
    """whether the text tower takes an attention mask."""
    cut_exact: bool
    """whether a text without padding has the same vector as one padded to `context_length`: tested at export, never
    assumed."""


class Scoring(Facts):
    """How cosines become probabilities, with the checkpoint's own numbers."""

    kind: Literal["softmax", "sigmoid"]
    scale: float
    """cosines are multiplied by this."""
    bias: float = 0.0
    """then this is added (sigmoid models)."""


class File(Facts):
    """One file of the bundle."""

    sha256: Sha256
    bytes: int


class Check(Facts):
    """One line of a verification report: one stage, on one runtime, at one precision."""

    stage: Literal["pixels", "tokens", "image", "text", "similarity", "labels"]
    runtime: str
    precision: str
    worst_cosine: float | None
    mean_cosine: float | None
    max_abs: float
    top1: float | None
    top10: float | None
    passed: bool


class Report(Facts):
    """The outcome of verifying a bundle against its source."""

    passed: bool
    checks: tuple[Check, ...]


class Manifest(Facts):
    """The content of `tuwen.json`."""

    format: Literal[1] = 1
    """the version of the file's format."""
    name: str
    """the model's name, e.g. `xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k`."""
    family: str
    """the model family, or `foreign` for another layout."""
    source: str
    """the checkpoint it was made from."""
    licence: str = ""
    """SPDX identifier or name of the weights' licence, if known."""
    dim: int
    """the length of a vector."""
    full_dim: int | None = None
    """the length of the checkpoint's own vectors, of which the first `dim` numbers are kept; None: all are."""
    weights_sha256: Sha256
    """over names and tensors of the checkpoint's weights: the same for every precision and exporter version."""
    tokenizer_sha256: Sha256
    """over the bytes of `tokenizer.json`."""
    image: ImageSpec
    text: TextSpec
    scoring: Scoring | None
    """None if another layout does not state it; bundles written by tuwen always do."""
    files: dict[str, File]
    """every other file, by its path within the bundle."""
    facts: dict[str, str | int | float | bool] = {}
    """facts for people, measured or recorded at export: quality figures, seeds, recipes."""
    verify: dict[Precision, Report] = {}
    """the verification report of each precision."""

    @field_validator("files")
    @classmethod
    def _files_are_within(cls, files: dict[str, File]) -> dict[str, File]:
        """Bundles come from anywhere, so they may not name files outside their folder."""
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or str(path) != name:
                raise ValueError(f"{name!r} is not a path within the bundle")
        return files

    @model_validator(mode="after")
    def _numbers_are_possible(self) -> Self:
        if self.dim < 1 or self.text.context_length < 2 or min(self.image.size) < 1:
            raise ValueError("dim, context_length and size must be positive")
        if self.full_dim is not None and self.full_dim <= self.dim:
            raise ValueError("full_dim must be greater than dim")
        if self.scoring is None and self.family != FOREIGN:
            raise ValueError("scoring must say how cosines become probabilities")
        return self

    def fingerprint(self) -> str:
        """16 hex digits over what the vectors mean: weights, tokenizer with its cleaning, image and text spec.

        If vectors are cut (`full_dim`), their length is part of it.
        ONNX bytes, precision, runtime and `cut_exact` are left out: they change how a vector is computed, not which
        vector it is. Languages and the name are for people and are left out too, and so are fields that are None: a
        later version can add a field without changing every fingerprint.
        """
        text = self.text.model_dump(exclude={"languages", "cut_exact", "pad_to"}, exclude_none=True)
        facts = {
            "weights": self.weights_sha256,
            "tokenizer": self.tokenizer_sha256,
            "image": self.image.model_dump(exclude_none=True),
            "text": text,
            **({} if self.full_dim is None else {"dim": self.dim}),
        }
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(canonical).hexdigest()[:16]


Tower = Literal["vision", "text"]

TOWERS: tuple[Tower, ...] = ("vision", "text")
MANIFEST = "tuwen.json"
TOKENIZER = "tokenizer.json"


def graph(tower: Tower, precision: Precision) -> str:
    """The path, within a bundle, of one tower's ONNX graph."""
    suffix = "" if precision == "fp32" else f"_{precision}"
    return f"onnx/{tower}_model{suffix}.onnx"
