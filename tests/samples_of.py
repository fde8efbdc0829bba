"""Samples for the tests of their readers: written in one shape, listed and read again in any."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from tuwen.data.parquet import read_rows
from tuwen.data.samples import Listed, Sample, read_sample
from tuwen.types import Rejected


def jpeg(level: int = 90) -> bytes:
    """A small picture, another for every level."""
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), (level, 80, 200 - level)).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> Path:
    """A tar file of those members, in that order."""
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w") as archive:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read_all(listed: Iterable[object]) -> list[Sample | Rejected]:
    """What is listed, read, each through its line of JSON as a plan has it."""
    lines = [Listed.of_line(item.line()) for item in listed if isinstance(item, Listed)]
    return [read_sample(item) if isinstance(item, Listed) else item for item in read_rows(lines)]


def rejected(listed: Iterable[object]) -> list[str]:
    return [f"{item.path}: {item.reason}" for item in listed if isinstance(item, Rejected)]
