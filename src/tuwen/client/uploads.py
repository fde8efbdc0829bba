"""Files, folders and pictures in memory -> parcels that one request carries.

Knows how much is sent at a time. Does not know what the service makes of it.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from tuwen.client.answers import Added, expected, rejected_of
from tuwen.data.decode import orientation_of, to_rgb, turned
from tuwen.data.files import Skipped, find_files, open_file
from tuwen.errors import RejectedImages
from tuwen.runtime.pipeline import AnyImage
from tuwen.types import Rejected

# ---- Pictures as people hand them over -> what a request carries.


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


# ---- Files, folders and pictures in memory -> parcels that one request carries.

FILES = 16
"""pictures in a parcel, at most"""
BYTES = 16 * 2**20
"""bytes after which a parcel is full"""


@dataclass(slots=True)
class Parcel:
    """What is sent together.

    Attributes:
        files: what each is called, and its bytes.
        rejected: files that cannot be opened.
        skipped: how many are no pictures by content and by ending.
    """

    files: list[tuple[str, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    skipped: int = 0

    @property
    def form(self) -> list[tuple[str, tuple[str, bytes]]]:
        """The fields of the request."""
        return [("files", (sent, content)) for sent, (_, content) in zip(self.sent, self.files, strict=True)]

    @property
    def sent(self) -> list[str]:
        """What the service is told that each file is called: its number, with the ending that some formats need."""
        return [f"{number}{_ending(name)}" for number, (name, _) in enumerate(self.files)]

    @property
    def full(self) -> bool:
        """Whether nothing more should be put into it."""
        return len(self.files) >= FILES or sum(len(content) for _, content in self.files) >= BYTES

    def parts(self, reason: str) -> "Iterator[Parcel]":
        """The same in parcels of one file; the only file is rejected for `reason`."""
        alone = len(self.files) == 1
        refused = [Rejected(self.files[0][0], reason)] if alone else []
        yield Parcel([], [*self.rejected, *refused], self.skipped)
        if not alone:
            yield from (Parcel([file]) for file in self.files)


def parcels(images: Sequence[AnyImage]) -> Iterator[Parcel]:
    """All that is given, in order; files are read as a parcel is filled.

    Args:
        images: files, folders to search for pictures, files' bytes, images of Pillow. One of the latter two is
            called `images[N]`, a file by its path, relative to the working folder where it is below it.

    Raises:
        InvalidInput: a path does not exist.
    """
    parcel = Parcel()
    for item in _items(images):
        if isinstance(item, Rejected):
            parcel.rejected.append(item)
        elif isinstance(item, Skipped):
            parcel.skipped += 1
        else:
            parcel.files.append(item)
        if parcel.full:
            yield parcel
            parcel = Parcel()
    yield parcel


@expected
def with_parcel(before: Added, parcel: Parcel, answer: Mapping[str, Any] | None, seconds: float) -> Added:
    """A report with what became of one more parcel.

    Args:
        before: the report so far.
        parcel: what was sent.
        answer: what the service said; None where there was nothing to send.
        seconds: since the start.
    """
    if answer is None:
        answer = {"indexed": 0, "unchanged": 0, "replaced": 0, "rejected": [], "images": []}
    names = dict(zip(parcel.sent, (name for name, _ in parcel.files), strict=True))
    refused = {item.path: item.reason for item in rejected_of(answer)}
    kept = [name for sent, name in names.items() if sent not in refused]
    rejected = [Rejected(names[sent], reason) for sent, reason in refused.items()]
    return Added(
        indexed=before.indexed + answer["indexed"],
        unchanged=before.unchanged + answer["unchanged"],
        replaced=before.replaced + answer["replaced"],
        skipped=before.skipped + parcel.skipped,
        rejected=(*before.rejected, *parcel.rejected, *rejected),
        seconds=seconds,
        ids={**before.ids, **{name: row["id"] for name, row in zip(kept, answer["images"], strict=True)}},
    )


def _ending(name: str) -> str:
    ending = PurePath(name).suffix
    return ending if ending[1:].isascii() and ending[1:].isalnum() and len(ending) < 10 else ""


def _items(images: Sequence[AnyImage]) -> Iterator[tuple[str, bytes] | Rejected | Skipped]:
    for number, image in enumerate(images):
        if isinstance(image, bytes | Image.Image):
            yield f"images[{number}]", content_of(image)
        else:
            yield from _files(Path(image))


def _files(path: Path) -> Iterator[tuple[str, bytes] | Rejected | Skipped]:
    for item in find_files([path], Path.cwd()):
        if isinstance(item, Rejected | Skipped):
            yield item
            continue
        try:
            yield item.key, content_of(item.path)
        except RejectedImages as error:
            yield Rejected(item.key, error.rejected[0].reason)
