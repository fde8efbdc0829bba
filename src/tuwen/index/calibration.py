"""Calibrated thresholds of an index: the score below which a hit is not a match, see `evaluation/calibrate.py`.

photos.tuwen/calibration.json      beside `index.json`; an index may be without it
qdrant://host:6333/photos          in the collection's metadata
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tuwen.errors import IndexInvalid
from tuwen.index.manifest import write_model

CALIBRATION = "calibration.json"

QueryKind = Literal["text", "image"]
QUERY_KINDS: tuple[QueryKind, ...] = ("text", "image")


class Threshold(BaseModel):
    """The threshold for one kind of query, with its error rates."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    threshold: float
    """a cosine; hits with a lower score are not matches"""
    false_accept: float | None
    """the share of queries without a match that still had a hit; None if there were no such queries"""
    false_reject: float | None
    """the share of queries whose match was left out; None if there were no queries with a match"""
    matching: int
    """number of queries with a match"""
    unmatching: int
    """number of queries without a match"""
    rows: int
    """number of rows in the index; the best score of a query without a match grows with it"""
    created: str
    """time of the measurement, ISO 8601 in UTC"""


class Calibration(BaseModel):
    """The thresholds measured on an index."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    format: Literal[1] = 1
    """the version of this format"""
    fingerprint: str
    """the fingerprint of the model that was used"""
    text: Threshold | None = None
    """the threshold for text queries; None if it was not measured"""
    image: Threshold | None = None
    """for pictures"""


def read_calibration(folder: Path, fingerprint: str) -> Calibration | None:
    """Read the thresholds measured on an index with this model; None if there are none.

    Raises:
        IndexInvalid: this version cannot read the file.
    """
    path = folder / CALIBRATION
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_calibration(text, str(path), fingerprint)


def parse_calibration(text: str | bytes, place: str, fingerprint: str) -> Calibration | None:
    """Parse thresholds from the JSON at `place`; None if they were measured with another model.

    Raises:
        IndexInvalid: this version cannot read it; `.value` is the invalid field and `.where` the place.
    """
    try:
        found = Calibration.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        hint = "measure again with tuwen calibrate"
        raise IndexInvalid(f"{place}: {field}: {first['msg']}; {hint}", value=field, where=place, hint=hint) from error
    return found if found.fingerprint == fingerprint else None


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write measured thresholds beside an index; a kill leaves either the old file or the new one."""
    write_model(folder / CALIBRATION, calibration)
