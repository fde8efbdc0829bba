"""Files, folders and images in memory, grouped into the requests that upload them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from tuwen.client.documents import content_of, expected, rejected_of
from tuwen.data.files import Skipped, find_files
from tuwen.errors import RejectedImages
from tuwen.runtime.pipeline import AnyImage
from tuwen.types import Rejected

FILES = 16
"""images per request"""
BYTES = 16 * 2**20
"""bytes after which a request is full"""


@dataclass(frozen=True, slots=True)
class Added:
    """The result of an upload so far.

    Attributes:
        indexed: images that are new rows.
        unchanged: images that the index already had.
        replaced: images that replaced others.
        skipped: files that are not images by content or extension.
        rejected: files that claim to be images but cannot be read.
        seconds: since the start.
        ids: the row id of each image that is in the index now, by name: a file's path (relative to the working folder
            if it is below it), or `images[N]` for bytes and Pillow images.
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
        """Files processed so far."""
        return self.indexed + self.unchanged + self.replaced + self.skipped + len(self.rejected)


@dataclass(slots=True)
class Upload:
    """The images of one request.

    Attributes:
        files: the name and the bytes of each.
        rejected: files that cannot be opened.
        skipped: the number of files that are not images by content or extension.
    """

    files: list[tuple[str, bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    skipped: int = 0

    @property
    def form(self) -> list[tuple[str, tuple[str, bytes]]]:
        """The fields of the request's form."""
        return [("files", (sent, content)) for sent, (_, content) in zip(self.sent, self.files, strict=True)]

    @property
    def sent(self) -> list[str]:
        """The file names that are sent: numbers with the extension, which some formats need."""
        return [f"{number}{_extension(name)}" for number, (name, _) in enumerate(self.files)]

    @property
    def full(self) -> bool:
        """Whether no further image should be added."""
        return len(self.files) >= FILES or sum(len(content) for _, content in self.files) >= BYTES

    def parts(self, reason: str) -> "Iterator[Upload]":
        """Split into uploads of one file each. A single file is rejected for `reason`."""
        single = len(self.files) == 1
        rejected = [Rejected(self.files[0][0], reason)] if single else []
        yield Upload([], [*self.rejected, *rejected], self.skipped)
        if not single:
            yield from (Upload([file]) for file in self.files)


def uploads(images: Sequence[AnyImage]) -> Iterator[Upload]:
    """Group images into requests, in order; files are read when their request is filled.

    Args:
        images: files, folders to search for images, files' contents, Pillow images.

    Raises:
        InvalidInput: a path does not exist.
    """
    upload = Upload()
    for item in _items(images):
        if isinstance(item, Rejected):
            upload.rejected.append(item)
        elif isinstance(item, Skipped):
            upload.skipped += 1
        else:
            upload.files.append(item)
        if upload.full:
            yield upload
            upload = Upload()
    yield upload


@expected
def with_upload(before: Added, upload: Upload, answer: Mapping[str, Any] | None, seconds: float) -> Added:
    """Add an upload to the result.

    Args:
        before: the result so far.
        upload: the upload that was sent.
        answer: the service's response; None if there was nothing to send.
        seconds: since the start.
    """
    if answer is None:
        answer = {"indexed": 0, "unchanged": 0, "replaced": 0, "rejected": [], "images": []}
    names = dict(zip(upload.sent, (name for name, _ in upload.files), strict=True))
    reasons = {item.path: item.reason for item in rejected_of(answer)}
    kept = [name for sent, name in names.items() if sent not in reasons]
    rejected = [Rejected(names[sent], reason) for sent, reason in reasons.items()]
    return Added(
        indexed=before.indexed + answer["indexed"],
        unchanged=before.unchanged + answer["unchanged"],
        replaced=before.replaced + answer["replaced"],
        skipped=before.skipped + upload.skipped,
        rejected=(*before.rejected, *upload.rejected, *rejected),
        seconds=seconds,
        ids={**before.ids, **{name: row["id"] for name, row in zip(kept, answer["images"], strict=True)}},
    )


def _extension(name: str) -> str:
    extension = PurePath(name).suffix
    return extension if extension[1:].isascii() and extension[1:].isalnum() and len(extension) < 10 else ""


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
