"""The models that are known by name, and what was published of each: `catalogue.yaml`, read without torch.

A field that is None or empty is not known. Does not know which of them are on this machine.
"""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("catalogue.yaml")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Row):
    """What a published number is of (`what`), and where it was published (`by`)."""

    what: str
    by: str


class Known(_Row):
    """One model.

    Attributes:
        name: what people call it.
        source: what `tuwen export` calls it.
        also: another source that names it, or None.
        hub: the repository of its checkpoint.
        onnx: a repository of ready ONNX files, or None.
        languages: ISO 639-1 codes, or `many`.
        dim: numbers in a vector.
        params: millions of parameters, both towers.
        image: side of the square that pictures become, in pixels.
        licence: of the weights.
        quality: percent by the name of a figure, see `Catalogue.figures`.
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
    """All of them."""

    figures: dict[str, Figure]
    models: tuple[Known, ...]


@cache
def catalogue() -> Catalogue:
    """Read the table; once in a process."""
    import yaml

    return Catalogue.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def find_known(name: str) -> Known | None:
    """The model of that name; its repository's name or its source is as good."""
    name = name.removeprefix("hf:")
    for known in catalogue().models:
        if name in (known.name, known.hub, known.source, known.also, known.source.partition(":")[2]):
            return known
    return None
