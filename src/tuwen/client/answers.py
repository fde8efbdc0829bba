"""What the service answers -> the values that the same verbs give without a service.

Knows the JSON shapes, which are those of `--json`. Does not know how an answer came.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tuwen.classify.classifier import Label
from tuwen.errors import RejectedImages, ServiceFault, TuwenError
from tuwen.index.calibration import Calibration
from tuwen.index.manifest import Info
from tuwen.index.store import Stored
from tuwen.types import Hit, Rejected, Vectors

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Served(Info):
    """Facts about the index that a service has open; `index` and `bytes` are the service's own.

    Attributes:
        write: whether who asks may add and remove.
        calibration: from which scores on a hit means something; None where that was not measured.
    """

    write: bool
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a service encodes with: its name, the languages that it knows, and see `Encoder`."""

    id: str
    languages: tuple[str, ...]
    dim: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Added:
    """What became of pictures so far that were given to be uploaded.

    Attributes:
        indexed: how many are new rows.
        unchanged: how many the index had already.
        replaced: how many took the place of others.
        skipped: files that are no pictures by content and by ending.
        rejected: files that claim to be pictures and cannot be read.
        seconds: since the start.
        ids: the row of each picture that is in the index now, by what it was called: see `uploads.parcels`.
    """

    indexed: int = 0
    unchanged: int = 0
    replaced: int = 0
    skipped: int = 0
    rejected: tuple[Rejected, ...] = ()
    seconds: float = 0.0
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Files dealt with so far."""
        return self.indexed + self.unchanged + self.replaced + self.skipped + len(self.rejected)


def expected(read: Callable[P, R]) -> Callable[P, R]:
    """Raise ServiceFault where an answer is not what `read` expects."""

    @wraps(read)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except TuwenError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ServiceFault(
                f"the answer is not that of a tuwen service of this version: {type(error).__name__} {error}"
            ) from error

    return checked


@expected
def hits_of(answer: Mapping[str, Any]) -> list[Hit]:
    """A search's hits, best first."""
    return [Hit(hit["id"], hit["score"], hit["payload"], tuple(hit.get("similar") or ())) for hit in answer["hits"]]


@expected
def row_of(answer: Mapping[str, Any]) -> Stored:
    """A row without its vector."""
    return Stored(answer["id"], answer["payload"])


@expected
def page_of(answer: Mapping[str, Any]) -> tuple[list[Stored], int]:
    """Some rows without their vectors, and how many there are in all."""
    return [row_of(row) for row in answer["rows"]], int(answer["total"])


@expected
def removed_of(answer: Mapping[str, Any]) -> int:
    """How many rows were taken out."""
    return int(answer["removed"])


@expected
def served_of(answer: Mapping[str, Any]) -> Served:
    """Facts about the index."""
    apart = ("precisions", "calibration")
    told = {name: answer[name] for name in Served.__dataclass_fields__ if name not in apart}
    measured = answer["calibration"]
    calibration = None if measured is None else Calibration.model_validate(measured)
    return Served(**told, precisions=tuple(answer["precisions"]), calibration=calibration)


@expected
def models_of(answer: Mapping[str, Any]) -> tuple[ServedModel, ...]:
    """The models."""
    return tuple(ServedModel(it["id"], tuple(it["languages"]), it["dim"], it["fingerprint"]) for it in answer["data"])


@expected
def labels_of(answer: Mapping[str, Any]) -> tuple[Label, ...]:
    """The labels of the one picture that was asked about, best first.

    Raises:
        RejectedImages: it cannot be read.
    """
    if answer["rejected"]:
        raise RejectedImages(rejected_of(answer))
    return tuple(Label(**label) for label in answer["images"][0]["labels"])


@expected
def rejected_of(answer: Mapping[str, Any]) -> tuple[Rejected, ...]:
    """The inputs that could not be read."""
    return tuple(Rejected(item["path"], item["reason"]) for item in answer["rejected"])


@expected
def vectors_of(answers: Sequence[Mapping[str, Any]]) -> Vectors:
    """(n, dim) of the answers to at least one request, in their order; each vector is base64 of float32s."""
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for one in answers for item in one["data"]]
    return np.asarray(np.stack(rows), np.float32)
