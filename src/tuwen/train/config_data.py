"""The sections `data` and `augment`: which pairs are trained on, in which order, and what is done to pictures."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from tuwen.train.config_base import Above, Part, Positive, Section, Share


class PairSource(Section, strict=False):
    """One place that pairs are read from."""

    path: Path
    """a folder (`cat.jpg` and `cat.txt`; what img2dataset wrote), a `.tar` of webdataset, `.parquet`, `.csv`,
    `.tsv`, `.jsonl`, or a Karpathy `.json`"""
    images: Path | None = None
    """the folder that a table's or a Karpathy file's paths are relative to; not set: the file's own"""
    splits: tuple[str, ...] = ()
    """of a Karpathy file: which of its splits; not set: train and restval"""
    key: str | None = None
    """the column that names a pair; not set: found by its usual names"""
    image: str | None = None
    """the column of pictures or their paths; likewise"""
    captions: Annotated[dict[str, str], Field(min_length=1)] | str | None = None
    """the column of captions, or language -> column where each has one; not set: found by its usual names"""
    language: str | None = None
    """the language of all captions, e.g. `zh`"""
    language_column: str | None = None
    """the column that says which language a row's captions are in"""

    @model_validator(mode="after")
    def _language_is_said_once(self) -> Self:
        said = (self.language is not None, self.language_column is not None, isinstance(self.captions, dict))
        if sum(said) > 1:
            raise ValueError(
                "language, language_column and a language for each column of captions exclude each other: leave "
                "all but one out"
            )
        return self

    def speaks(self, language: str) -> bool:
        """Whether there may be captions in a language."""
        named = self.captions if isinstance(self.captions, dict) else {self.language: ""}
        return self.language_column is not None or language in named


def _listed(value: object) -> object:
    """`./photos` is `[{path: ./photos}]`, and so is one source that stands alone."""
    several = value if isinstance(value, list | tuple) else [value]
    return [{"path": item} if isinstance(item, str | Path) else item for item in several]


Sources: TypeAlias = Annotated[tuple[PairSource, ...], BeforeValidator(_listed), Field(strict=False)]


class DataConfig(Section):
    """Which pairs are trained on, and in which order."""

    train: Annotated[Sources, Field(min_length=1)]
    """a path, a source, or several of both"""
    languages: dict[str, Above] = Field(default_factory=dict)
    """language -> weight: how often a caption is drawn from it, among those that a picture has; others are left
    out. Empty: every caption is as likely"""
    shuffle: bool = True
    """whether every epoch has an order of its own"""
    buffer: Positive = 10_000
    """pairs that are mixed with each other: shards come in random order, and pairs within so many of them"""
    drop_last: bool = True
    """whether the pairs that do not fill a last batch wait for another epoch"""
    cut: bool = True
    """whether texts are cut to the longest of their batch, where that is known to change nothing for the model"""
    max_bad: Share = 0.01
    """the run stops when a greater share of the pairs cannot be read"""
    max_pixels: Positive = 178_956_970
    """a picture of more pixels counts as one that cannot be read"""
    exact: bool = False
    """whether every pixel is decoded; else large pictures are decoded at reduced scale, several times as fast"""

    @model_validator(mode="after")
    def _languages_are_spoken(self) -> Self:
        silent = [name for name in self.languages if not any(source.speaks(name) for source in self.train)]
        if silent:
            raise ValueError(
                f"languages: no source of train says that it has captions in {', '.join(silent)}: say it with "
                f"language, language_column, or captions: {{{silent[0]}: COLUMN}}"
            )
        return self


class Jitter(Section):
    """Random changes of colour: each factor is drawn from 1 - x to 1 + x, hue from -x to x."""

    probability: Share = 0.8
    """how often"""
    brightness: Share = 0.0
    """x of the brightness"""
    contrast: Share = 0.0
    """x of the contrast"""
    saturation: Share = 0.0
    """x of the saturation"""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """x of the hue, in turns of the colour wheel"""


class AugmentConfig(Section):
    """What is done to a training picture before it is scaled as the model's image spec says."""

    crop: Literal["random", "none"] = "random"
    """`random`: a random part, brought to the model's size; `none`: exactly as the model sees pictures later"""
    scale: tuple[Part, Part] = (0.9, 1.0)
    """the least and the greatest share of the picture's area that a random part has"""
    ratio: tuple[Above, Above] = (0.75, 4 / 3)
    """the least and the greatest ratio of its width to its height"""
    flip: Share = 0.0
    """how often a picture is mirrored: captions may say left and right, and writing is to be read"""
    jitter: Jitter = Jitter()
    """changes of colour"""
    grayscale: Share = 0.0
    """how often the colours are taken away"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ValueError(f"{name}: the least, {low}, is above the greatest, {high}")
        return self
