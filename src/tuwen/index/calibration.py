"""`calibration.json`: from which score on a hit of an index means something, measured by `tasks/calibrate.py`.

Knows where it stands and whose it is. Does not know how it is measured. It stands beside `index.json`: an index
without it is whole.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tuwen.errors import IndexInvalid, InvalidInput
from tuwen.index.manifest import write_model

CALIBRATION = "calibration.json"

QueryKind = Literal["text", "image"]
QUERY_KINDS: tuple[QueryKind, ...] = ("text", "image")


class Threshold(BaseModel):
    """From which score on a hit means something, for one kind of query, and how often that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    threshold: float
    """the cosine: nothing that scores less matches"""
    false_accept: float | None
    """the share of queries without a match that had a hit all the same; None where there was no such query"""
    false_reject: float | None
    """the share of queries with a match whose match was left out; None where there was no such query"""
    matching: int
    """how many queries with a match were tried"""
    unmatching: int
    """how many without"""
    rows: int
    """how many rows the index had: the best score of a query without a match grows with them"""
    created: str
    """when, ISO 8601 in UTC"""


class Calibration(BaseModel):
    """The whole of `calibration.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal[1] = 1
    """the version of this file's shape"""
    fingerprint: str
    """what identifies the model that it was measured with"""
    text: Threshold | None = None
    """for texts; None where it was not measured"""
    image: Threshold | None = None
    """for pictures"""


def read_calibration(folder: Path, fingerprint: str) -> Calibration | None:
    """What was measured on an index with this model; None if nothing was.

    Raises:
        IndexInvalid: the file is not one that this version reads.
    """
    path = folder / CALIBRATION
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise IndexInvalid(f"{path}: {field}: {first['msg']}; tuwen calibrate writes it anew") from error
    return found if found.fingerprint == fingerprint else None


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Put what was measured beside an index; killed at any moment, it leaves the old file or the new one.

    Raises:
        InvalidInput: the index is in no folder.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder: a threshold cannot be kept there, give --min-score a number")
    write_model(folder / CALIBRATION, calibration)
