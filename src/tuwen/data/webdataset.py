"""Samples in a tar file, as webdataset and img2dataset write them: `000000012.jpg`, `.txt`, `.json`.

Members are joined by their names up to the first dot of the last part, wherever in the archive they stand. Knows
the archive's table of contents, which is read once without the contents. Does not know what is in a member.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tuwen.data.files import Skipped, open_file
from tuwen.data.formats import HEAD, format_of_content, format_of_name
from tuwen.data.samples import Listed, Span
from tuwen.types import Rejected

_BLOCK = 512


def list_tar(path: Path, prefix: str) -> Iterator[Listed | Rejected | Skipped]:
    """The samples of an archive, in the order in which each begins.

    Of several pictures of one sample, those with a plain ending count (`x.jpg`, not `x.mask.png`); if there are
    still several, each is a sample of its own. An archive that is cut short gives what it has, and itself as
    rejected.

    Args:
        path: the archive, not compressed.
        prefix: what keys begin with, such as `00000.tar/`; may be empty.
    """
    try:
        with open_file(path) as file:
            yield from _listed(file, path, prefix)
    except tarfile.ReadError:
        yield Rejected(str(path), "is no tar file, or a compressed one: unpack it (gunzip) first")
    except OSError as error:
        yield Rejected(str(path), f"cannot be read: {error.strerror or error}")


def _listed(file: BinaryIO, path: Path, prefix: str) -> Iterator[Listed | Rejected | Skipped]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        groups: dict[str, dict[str, tarfile.TarInfo]] = {}
        broken = ""
        try:
            for member in archive:
                yield from _added(member, groups, prefix)
        except (tarfile.TarError, OSError, ValueError) as error:
            broken = str(error) or type(error).__name__
        end = archive.offset
    stamp = path.stat().st_mtime_ns
    for key, members in groups.items():
        yield from _samples(prefix + key, key, members, _Contents(file, str(path), stamp))
    if not broken and not _ends(file, end):
        broken = "its end mark is missing"
    if broken:
        yield Rejected(str(path), f"is damaged or cut short: {broken}; {len(groups)} samples were found in it")


def _added(member: tarfile.TarInfo, groups: dict[str, dict[str, tarfile.TarInfo]], prefix: str) -> Iterator[Rejected]:
    """Put a member where its name says, within the archive; folders and links are passed over."""
    if not member.isreg():
        return
    folder, slash, name = _inside(member.name).rpartition("/")
    stem, _, ending = name.partition(".")
    members = groups.setdefault(f"{folder}{slash}{stem}", {})
    if member.sparse is not None:
        yield Rejected(prefix + member.name, "is stored as a sparse file, which is not read")
    elif ending in members:
        yield Rejected(prefix + member.name, "is in the archive twice; the first one counts")
    else:
        members[ending] = member


def _inside(name: str) -> str:
    """A member's name without what would lead out of its archive: `/x`, `./x` and `../x` are `x`."""
    return "/".join(part for part in name.split("/") if part not in {"", ".", ".."})


class _Contents:
    """Where members' contents are, and how they begin."""

    def __init__(self, file: BinaryIO, path: str, modified: int) -> None:
        self._file = file
        self._path = path
        self._modified = modified

    def span(self, member: tarfile.TarInfo | None) -> Span | None:
        if member is None:
            return None
        return Span(self._path, member.offset_data, member.size, self._modified)

    def is_picture(self, member: tarfile.TarInfo) -> bool:
        if format_of_name(member.name) is not None:
            return True
        self._file.seek(member.offset_data)
        return format_of_content(self._file.read(min(HEAD, member.size))) is not None


def _samples(
    key: str, place: str, members: dict[str, tarfile.TarInfo], contents: _Contents
) -> Iterator[Listed | Skipped]:
    rest = dict(members)
    caption, facts = contents.span(rest.pop("txt", None)), contents.span(rest.pop("json", None))
    pictures = [ending for ending, member in rest.items() if contents.is_picture(member)]
    plain = [ending for ending in pictures if "." not in ending] or pictures
    for ending in plain:
        whole = key if len(plain) == 1 else f"{key}.{ending}"
        name = f"{key}.{ending}" if ending else key
        yield Listed(whole, name, place, contents.span(rest[ending]), caption, facts)
    if not plain and caption is not None:
        yield Listed(key, place=place, caption=caption, facts=facts)
    elif not plain:
        yield Skipped(Path(key))


def _ends(file: BinaryIO, end: int) -> bool:
    """Whether the archive ends as it must: with a block of zeros after the last member."""
    file.seek(end)
    return file.read(_BLOCK) == bytes(_BLOCK)
