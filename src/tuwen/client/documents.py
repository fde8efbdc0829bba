"""Convert queries and images to the service's JSON, and its responses to the values that an index returns."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from PIL import Image

from tuwen.classify.classifier import Label, Prediction
from tuwen.data.colour import to_rgb
from tuwen.data.exif import apply_orientation, orientation_of
from tuwen.data.files import open_file
from tuwen.errors import InvalidInput, RejectedImages, ServiceFault, TuwenError
from tuwen.index.calibration import Calibration
from tuwen.index.manifest import Info
from tuwen.index.store import Stored
from tuwen.runtime.pipeline import AnyImage
from tuwen.search.query import Operand, Query, RowId, refuse_path
from tuwen.types import Hit, Rejected, Vectors

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ServedInfo(Info):
    """Facts about the index that a service serves.

    Attributes:
        write: whether this client may add and remove images.
        calibration: the measured score thresholds; None if none were measured.
    """

    write: bool
    calibration: Calibration | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model of a service; its attributes are those of an `Encoder`."""

    id: str
    languages: tuple[str, ...]
    dim: int
    fingerprint: str


def query_document(query: Operand | Query) -> dict[str, object]:
    """Convert a query to the body of POST /v1/recommend.

    Raises:
        RejectedImages: an image file cannot be opened.
        InvalidInput: an operand of a type that cannot be searched for, or a text that is the path of an existing image.
    """
    whole = query if isinstance(query, Query) else Query(like=[query])
    return {
        "like": [_example(operand) for operand in whole.like],
        "unlike": [_example(operand) for operand in whole.unlike],
        "strategy": whole.strategy,
    }


def _example(operand: Operand | tuple[Operand, float]) -> dict[str, object]:
    if isinstance(operand, tuple):
        return _example(operand[0]) | {"weight": operand[1]}
    if isinstance(operand, Hit | RowId):
        return {"id": operand.id}
    if isinstance(operand, str):
        refuse_path(operand, "query")
        return {"text": operand}
    if isinstance(operand, np.ndarray):
        return {"vector": np.asarray(operand, np.float64).tolist()}
    if isinstance(operand, Path | bytes | Image.Image):
        return {"image": data_url(operand)}
    raise InvalidInput(
        f"cannot search for a value of type {type(operand).__name__}: give a text, a Path, bytes, a Pillow image, "
        "a vector, a Hit or a RowId",
        value=operand,
    )


def data_url(image: AnyImage) -> str:
    """Encode an image as a `data:` URL. The service detects the format from the content.

    Raises:
        RejectedImages: its file cannot be opened.
    """
    return f"data:application/octet-stream;base64,{base64.b64encode(content_of(image)).decode('ascii')}"


def content_of(image: AnyImage) -> bytes:
    """The bytes of an image: a file's bytes unchanged; a Pillow image as PNG, with EXIF rotation applied, on white.

    Raises:
        RejectedImages: the file cannot be opened.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        written = BytesIO()
        to_rgb(apply_orientation(image, orientation_of(image))).save(written, format="PNG", compress_level=1)
        return written.getvalue()
    try:
        with open_file(Path(image)) as file:
            return file.read()
    except OSError as error:
        raise RejectedImages([Rejected(str(image), error.strerror or str(error))]) from error


def expected(read: Callable[P, R]) -> Callable[P, R]:
    """Raise ServiceFault if a response does not have the shape that `read` expects."""

    @wraps(read)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except TuwenError:
            raise
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ServiceFault(
                f"unexpected response, perhaps from another version of tuwen: {type(error).__name__} {error}"
            ) from error

    return checked


@expected
def hits_of(answer: Mapping[str, Any]) -> list[Hit]:
    """The hits of a search, best first."""
    return [Hit(hit["id"], hit["score"], hit["payload"], tuple(hit.get("similar") or ())) for hit in answer["hits"]]


@expected
def row_of(answer: Mapping[str, Any]) -> Stored:
    """A row without its vector."""
    return Stored(answer["id"], answer["payload"])


@expected
def page_of(answer: Mapping[str, Any]) -> tuple[list[Stored], int]:
    """A page of rows without their vectors, and the number of all rows."""
    return [row_of(row) for row in answer["rows"]], int(answer["total"])


@expected
def removed_of(answer: Mapping[str, Any]) -> int:
    """The number of removed rows."""
    return int(answer["removed"])


@expected
def info_of(answer: Mapping[str, Any], url: str) -> ServedInfo:
    """Facts about the index; `index` is the service's address."""
    converted = ("index", "precisions", "calibration")
    fields = {name: answer[name] for name in ServedInfo.__dataclass_fields__ if name not in converted}
    measured = answer["calibration"]
    calibration = None if measured is None else Calibration.model_validate(measured)
    return ServedInfo(**fields, index=url, precisions=tuple(answer["precisions"]), calibration=calibration)


@expected
def models_of(answer: Mapping[str, Any]) -> tuple[ServedModel, ...]:
    """The models."""
    return tuple(ServedModel(it["id"], tuple(it["languages"]), it["dim"], it["fingerprint"]) for it in answer["data"])


@expected
def prediction_of(answer: Mapping[str, Any], path: str) -> Prediction | Rejected:
    """The labels of the image of a request, or why it could not be read."""
    if answer["rejected"]:
        return Rejected(path, answer["rejected"][0]["reason"])
    image = answer["images"][0]
    return Prediction(path, tuple(Label(**label) for label in image["labels"]), bool(image.get("none")))


@expected
def rejected_of(answer: Mapping[str, Any]) -> tuple[Rejected, ...]:
    """The inputs that could not be read."""
    return tuple(Rejected(item["path"], item["reason"]) for item in answer["rejected"])


@expected
def vectors_of(answers: Sequence[Mapping[str, Any]]) -> Vectors:
    """(n, dim) from the responses to one or more requests, in order; each vector is base64 of float32 numbers."""
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for one in answers for item in one["data"]]
    return np.asarray(np.stack(rows), np.float32)
