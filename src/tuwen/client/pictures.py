"""Pictures as people hand them over -> what a request carries.

Knows paths, bytes and images of Pillow. Does not decode: the service does, as it decodes those that it indexes.
"""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image

from tuwen.errors import RejectedImages
from tuwen.prepare.colours import to_rgb
from tuwen.prepare.sources import open_file
from tuwen.prepare.upright import orientation_of, turned
from tuwen.runtime.decoding import AnyImage
from tuwen.types import Rejected


def data_url(image: AnyImage) -> str:
    """A picture as a `data:` URL. What it is made of is told by its content, so no type is claimed.

    Raises:
        RejectedImages: its file cannot be opened.
    """
    return f"data:application/octet-stream;base64,{base64.b64encode(content_of(image)).decode('ascii')}"


def content_of(image: AnyImage) -> bytes:
    """A file's bytes as they are; an image of Pillow as PNG, upright and on white, as it would be encoded here.

    Raises:
        RejectedImages: the file cannot be opened.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        written = BytesIO()
        to_rgb(turned(image, orientation_of(image))).save(written, format="PNG", compress_level=1)
        return written.getvalue()
    try:
        with open_file(Path(image)) as file:
            return file.read()
    except OSError as error:
        raise RejectedImages([Rejected(str(image), error.strerror or str(error))]) from error
