"""Vectors of a few pictures and texts, in the order in which they are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuwen.data.files import is_file
from tuwen.data.formats import format_of_name
from tuwen.errors import InvalidInput

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder


@dataclass(frozen=True, slots=True)
class ItemVector:
    """A picture or a text with its (dim,) vector of length 1. `type`: `image` or `text`."""

    input: str
    type: str
    vector: NDArray[np.float32]


def embed_items(operands: Sequence[str], encoder: "Encoder", *, texts: Sequence[str] = ()) -> list[ItemVector]:
    """Embed each operand, a picture if a file of that name exists, else a text; and then `texts`, whatever exists.

    Raises:
        InvalidInput: an operand is named like a picture, and there is no such file.
        RejectedImages: a picture cannot be read.
    """
    items = [(operand, "image" if is_picture(operand) else "text") for operand in operands]
    items += [(text, "text") for text in texts]
    pictures = [Path(item) for item, kind in items if kind == "image"]
    vectors = {
        "image": iter(encoder.encode_images(pictures)),
        "text": iter(encoder.encode_texts([item for item, kind in items if kind == "text"])),
    }
    return [ItemVector(item, kind, next(vectors[kind])) for item, kind in items]


def save_items(items: Sequence[ItemVector], file: Path) -> None:
    """Write the vectors as (n, dim) float32; aside, then renamed.

    Raises:
        InvalidInput: there is no such folder.
    """
    if not file.parent.is_dir():
        raise InvalidInput(f"{file} cannot be written: there is no folder {file.parent}")
    aside = file.with_name(f".{file.name}.part")
    with aside.open("wb") as stream:
        np.save(stream, np.stack([item.vector for item in items]))
    aside.replace(file)


def is_picture(operand: str) -> bool:
    """Whether a file of that name exists, so that it is a picture and not a text.

    Raises:
        InvalidInput: there is none, but the operand is named like a picture.
    """
    if is_file(Path(operand)):
        return True
    if format_of_name(operand) is not None and not any(letter.isspace() for letter in operand):
        raise InvalidInput(f"{operand} does not exist; a text is told from a picture's name by having no such ending")
    return False
