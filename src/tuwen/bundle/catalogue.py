"""The catalogue of known models and their published quality figures, read from `catalogue.yaml`.

A field that is None or empty is not known.
"""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

FILE = Path(__file__).with_name("catalogue.yaml")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Licence(_Row):
    """A licence of weights: whether it allows commercial use, and what else should be known of it (`about`)."""

    commercial: bool
    about: str = ""


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
        licence: the licence of the weights, one of `Catalogue.licences`.
        own_code: whether it needs Python code from its repository. Such code is never run, so the model cannot be
            used; it is listed so that its licence is known.
        matryoshka: whether its vectors were trained to be cut, see `tuwen export --dims`.
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
    own_code: bool = False
    matryoshka: bool = False
    quality: dict[str, float] = {}


class Catalogue(_Row):
    """All known models, the licences of their weights, and figures."""

    licences: dict[str, Licence] = {}
    figures: dict[str, Figure]
    models: tuple[Known, ...]


@cache
def catalogue() -> Catalogue:
    """The catalogue, read once in a process."""
    import yaml

    return Catalogue.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def is_non_commercial(licence: str) -> bool:
    """Whether this licence is known to forbid commercial use; also that of a model outside of the catalogue."""
    known = catalogue().licences.get(licence)
    return licence.lower().startswith("cc-by-nc") if known is None else not known.commercial


def licence_line(known: Known) -> str:
    """The licence of a model's weights, as a person should see it before a download."""
    if not known.licence:
        return f"the licence of the weights of {known.name} is not known: read it where {known.hub} is published"
    about = catalogue().licences.get(known.licence, Licence(commercial=True)).about
    warning = ": it forbids commercial use" if is_non_commercial(known.licence) else ""
    return f"licence of the weights: {known.licence}{f' ({about})' if about else ''}{warning}"


def find_known(name: str) -> Known | None:
    """The model with this name, repository or source."""
    name = name.removeprefix("hf:")
    for known in catalogue().models:
        if name in (known.name, known.hub, known.source, known.also, known.source.partition(":")[2]):
            return known
    return None
