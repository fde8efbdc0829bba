"""The catalogue of known models and their published quality figures, read from `catalogue.yaml`.

A field that is None or empty is not known.
"""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("catalogue.yaml")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Row):
    """A quality figure: what it measures (`what`), and where it was published (`by`)."""

    what: str
    by: str


class Known(_Row):
    """One model.

    Attributes:
        name: the model's name.
        source: its source for `tuwen export`.
        also: another source of the same model, or None.
        hub: the hub repository of its checkpoint.
        onnx: a hub repository of ready ONNX files, or None.
        languages: ISO 639-1 codes, or `many`.
        dim: the length of a vector.
        params: millions of parameters, both towers.
        image: image size in pixels.
        licence: the licence of the weights.
        quality: percentages by figure, see `Catalogue.figures`.
    """

    name: str
    source: str
    also: str | None = None
    hub: str
    onnx: str | None = None
    languages: tuple[str, ...]
    dim: int
    params: int | None = None
    image: int | None = None
    licence: str = ""
    quality: dict[str, float] = {}


class Catalogue(_Row):
    """All known models and figures."""

    figures: dict[str, Figure]
    models: tuple[Known, ...]


@cache
def catalogue() -> Catalogue:
    """The catalogue, read once in a process."""
    import yaml

    return Catalogue.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def find_known(name: str) -> Known | None:
    """The model with this name, repository or source."""
    name = name.removeprefix("hf:")
    for known in catalogue().models:
        if name in (known.name, known.hub, known.source, known.also, known.source.partition(":")[2]):
            return known
    return None
