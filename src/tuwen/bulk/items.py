"""Embeds a few images and texts, in the order in which they are given."""

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
    """An image or a text with its (dim,) vector of length 1. `type`: `image` or `text`."""

    input: str
    type: str
    vector: NDArray[np.float32]


def embed_items(operands: Sequence[str], encoder: "Encoder", *, texts: Sequence[str] = ()) -> list[ItemVector]:
    """Embed operands and texts. An operand is an image if a file of that name exists, and else a text.

    Args:
        operands: paths of images, or texts.
        encoder: the model.
        texts: texts even if a file of that name exists.

    Raises:
        InvalidInput: an operand looks like an image's path, but there is no such file.
        RejectedImages: an image cannot be read.
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
    """Write the vectors as (n, dim) float32, into a temporary file that is then renamed.

    Raises:
        InvalidInput: the folder does not exist.
    """
    if not file.parent.is_dir():
        message = f"{file} cannot be written: the folder {file.parent} does not exist"
        raise InvalidInput(message, value=file.parent, where=file)
    aside = file.with_name(f".{file.name}.part")
    with aside.open("wb") as stream:
        np.save(stream, np.stack([item.vector for item in items]))
    aside.replace(file)


def is_picture(operand: str) -> bool:
    """Whether an operand is an image: whether a file of that name exists.

    Raises:
        InvalidInput: there is none, but the operand has an image's extension.
    """
    if is_file(Path(operand)):
        return True
    if format_of_name(operand) is not None and not any(letter.isspace() for letter in operand):
        hint = "to embed it as a text, pass it with --text"
        raise InvalidInput(f"the image {operand} does not exist; {hint}", value=operand, hint=hint)
    return False
