"""The image files behind rows, only below the collection's folder, and their thumbnails."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import ZipFile

from PIL import ImageOps

from tuwen.data.decode import Reading, original_of, read_image
from tuwen.data.files import open_file, path_of
from tuwen.data.formats import HEAD, format_of_content
from tuwen.index.store import Stored
from tuwen.server.responses import APIError, not_found
from tuwen.types import Rejected

_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "ICO": "image/x-icon",
    "TIFF": "image/tiff",
    "HEIF": "image/heic",
    "JPEG2000": "image/jp2",
}
"""what a browser may show; anything else, SVG and HTML above all, is only offered as a download"""
UNKNOWN = "application/octet-stream"


def file_of(row: Stored, root: Path) -> Path:
    """The file of a row, with symbolic links resolved.

    Raises:
        APIError: 404, the file is gone, is not a regular file, or lies outside the collection, even by a link.
    """
    gone = not_found(f"the file of {row.id} is no longer in the collection")
    if row.payload.get("type", "image") != "image":
        raise not_found(f"{row.id} is not an image")
    try:
        path = Path(os.path.realpath(path_of(str(row.payload["path"]), root), strict=True))
        base = Path(os.path.realpath(root, strict=True))
    except (OSError, ValueError):
        raise gone from None
    if not path.is_relative_to(base) or not path.is_file():
        raise gone
    return path


def content_type(path: Path) -> str:
    """The media type of a file, by its first bytes and not its name.

    Raises:
        APIError: 404, it cannot be read.
    """
    try:
        with open_file(path) as file:
            found = format_of_content(file.read(HEAD))
    except OSError:
        raise not_found("the file of the image cannot be read") from None
    return UNKNOWN if found is None else _TYPES.get(found.name, UNKNOWN)


SIZES = (128, 256, 320, 480, 640, 1024, 1600, 2048)
"""pixels of the longer side; other sizes are rounded up, so that the cache of an image is bounded"""
QUALITY = 80

_HASH = re.compile(r"[0-9a-f]{64}")


class Thumbnails:
    """Thumbnails as WebP files in a folder, by content and size. Safe in several threads and processes."""

    def __init__(self, folder: Path, max_pixels: int) -> None:
        self._folder = folder
        self._max_pixels = max_pixels

    def path(self, content: str, size: int) -> Path:
        """The path of the thumbnail, whether or not it exists yet."""
        if not _HASH.fullmatch(content):
            raise not_found("this row has no image to show")
        return self._folder / content[:2] / f"{content}-{rounded(size)}.webp"

    def made(self, file: Path, content: str, size: int) -> Path:
        """The path of a file's thumbnail, which is created if it does not exist.

        Raises:
            APIError: 422, the file cannot be read as an image.
        """
        path = self.path(content, size)
        if not path.is_file():
            self._make(file, path, rounded(size))
        return path

    def forget(self, content: str) -> None:
        """Remove all thumbnails of an image."""
        for size in SIZES:
            with suppress(FileNotFoundError, APIError):
                self.path(content, size).unlink()

    def _make(self, file: Path, path: Path, size: int) -> None:
        picture = read_image(file, file.name, Reading(near=(size, size), max_pixels=self._max_pixels))
        if isinstance(picture, Rejected):
            raise APIError(422, "unreadable", f"the image cannot be shown: it {picture.reason}")
        box = original_of(picture.image).box
        image = picture.image.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]
        if max(image.size) > size:
            image = ImageOps.contain(image, (size, size))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as target:
                image.save(target, format="WEBP", quality=QUALITY)
            Path(aside).replace(path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise


def zip_of(files: Mapping[str, Path], missing: Sequence[str]) -> Iterator[bytes]:
    """A zip archive, piece by piece; images are stored uncompressed.

    Args:
        files: the files, by their names in the archive.
        missing: names to list in `missing.txt`, in addition to files that cannot be read.
    """
    written = _Written()
    with ZipFile(written, "w") as archive:
        absent = [*missing]
        for name, path in files.items():
            try:
                source = open_file(path)
            except OSError:
                absent.append(name)
                continue
            with source, archive.open(name, "w", force_zip64=True) as target:
                while block := source.read(2**20):
                    target.write(block)
                    yield written.taken()
        if absent:
            archive.writestr("missing.txt", "\n".join(absent))
    yield written.taken()


class _Written:
    """A write-only file whose content is taken out while it is written."""

    def __init__(self) -> None:
        self._content = bytearray()

    def write(self, data: bytes, /) -> int:
        self._content += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def taken(self) -> bytes:
        content = bytes(self._content)
        self._content.clear()
        return content


def rounded(size: int) -> int:
    """The size, rounded up to one of `SIZES`."""
    return next((step for step in SIZES if step >= size), SIZES[-1])
