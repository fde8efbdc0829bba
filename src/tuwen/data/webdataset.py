"""Samples in tar files, as webdataset and img2dataset write them: `000000012.jpg`, `.txt`, `.json`, `.cls`.

Members belong together by name, wherever they are in the archive. Only the table of contents is read here.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from tuwen.data.files import Skipped, open_file
from tuwen.data.formats import HEAD, format_of_content, format_of_name
from tuwen.data.samples import Listed, Span
from tuwen.types import Rejected

_BLOCK = 512
_BESIDE = ("txt", "json", "cls")
"""extensions of members that belong to an image: captions, fields, class"""
_Found: TypeAlias = Listed | Rejected | Skipped


def list_tar(path: Path, prefix: str) -> Iterator[_Found]:
    """List the samples of an archive, in the order of their first members.

    Members with the same name up to the first dot are one sample (`s0.input.jpg`, `s0.output.txt`), as in webdataset.
    If that joins several images, samples are separated by their longest name with a known extension
    (`2020.01.05_a.jpg`, `2020.01.05_a.txt`), unless one of them has a plain extension: then that is the image, and
    others (`a.mask.png`) are not. Members that belong to no sample are skipped. A truncated archive yields the samples
    that it contains, and is itself rejected.

    Args:
        path: the archive, uncompressed.
        prefix: prefix of keys, such as `00000.tar/`; may be empty.
    """
    try:
        with open_file(path) as file:
            yield from _listed(file, path, prefix)
    except tarfile.ReadError:
        yield Rejected(str(path), "is not a tar file, or a compressed one: decompress it first")
    except OSError as error:
        yield Rejected(str(path), f"cannot be read: {error.strerror or error}")


@dataclass(slots=True)
class _Member:
    """A member of an archive: `name` up to the last dot, and the extension in lower case."""

    info: tarfile.TarInfo
    path: str
    name: str
    extension: str
    is_image: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the name has at most one dot."""
        return "." not in self.name.rpartition("/")[2]


@dataclass(slots=True)
class _Parts:
    """The members of one sample: images, and the captions and fields that belong to them."""

    key: str
    images: list[_Member] = field(default_factory=list)
    beside: dict[str, _Member] = field(default_factory=dict)


def _listed(file: BinaryIO, path: Path, prefix: str) -> Iterator[_Found]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        groups: dict[str, dict[str, _Member]] = {}
        broken = ""
        try:
            for member in archive:
                yield from _added(member, groups, prefix)
        except (tarfile.TarError, OSError, ValueError) as error:
            broken = str(error) or type(error).__name__
        end = archive.offset
    contents, count = _Contents(file, str(path), path.stat().st_mtime_ns), 0
    for stem, group in groups.items():
        for found in _samples(stem, list(group.values()), contents, prefix):
            count += isinstance(found, Listed)
            yield found
    if not broken and not _ends(file, end):
        broken = "the end marker is missing"
    if broken:
        yield Rejected(str(path), f"is damaged or truncated: {broken}; {count} samples were found in it")


def _added(info: tarfile.TarInfo, groups: dict[str, dict[str, _Member]], prefix: str) -> Iterator[Rejected]:
    """Add a member to the group of its name up to the first dot; folders and links are ignored."""
    if not info.isreg():
        return
    path = _inside(info.name)
    folder, slash, base = path.rpartition("/")
    name, _, extension = base.rpartition(".") if "." in base else (base, "", "")
    group = groups.setdefault(f"{folder}{slash}{base.partition('.')[0]}", {})
    if info.sparse is not None:
        yield Rejected(prefix + info.name, "is stored as a sparse file, which is not supported")
    elif path in group:
        yield Rejected(prefix + info.name, "is in the archive twice; the first one is used")
    else:
        group[path] = _Member(info, path, f"{folder}{slash}{name}", extension.lower())


def _inside(name: str) -> str:
    """A member's name without parts that lead outside: `/x`, `./x` and `../x` become `x`."""
    return "/".join(part for part in name.split("/") if part not in {"", ".", ".."})


class _Contents:
    """Positions and first bytes of members' contents."""

    def __init__(self, file: BinaryIO, path: str, modified: int) -> None:
        self._file, self._path, self._modified = file, path, modified

    def span(self, member: _Member | None) -> Span | None:
        if member is None:
            return None
        return Span(self._path, member.info.offset_data, member.info.size, self._modified)

    def read(self, member: _Member, size: int) -> bytes:
        self._file.seek(member.info.offset_data)
        return self._file.read(min(size, member.info.size))

    def is_image(self, member: _Member) -> bool:
        if member.extension in _BESIDE:
            return False
        return format_of_name(member.path) is not None or format_of_content(self.read(member, HEAD)) is not None


def _samples(stem: str, members: Sequence[_Member], contents: _Contents, prefix: str) -> Iterator[Listed | Skipped]:
    """The samples formed by members with the same name up to the first dot."""
    for member in members:
        member.is_image = contents.is_image(member)
    used = set[str]()
    for parts in _divided(stem, members):
        used |= {member.path for member in (*parts.images, *parts.beside.values())}
        caption, facts = contents.span(parts.beside.get("txt")), contents.span(parts.beside.get("json"))
        label = parts.beside.get("cls")
        labels = () if label is None else (contents.read(label, 256).decode("utf-8", "replace").strip(),)
        for image in parts.images:
            key, name = parts.key if len(parts.images) == 1 else image.path, image.path
            span, classes = contents.span(image), tuple(filter(None, labels))
            yield Listed(prefix + key, prefix + name, parts.key, span, caption, facts, labels=classes)
        if not parts.images:
            yield Listed(prefix + parts.key, place=parts.key, caption=caption, facts=facts)
    yield from (Skipped(Path(prefix + member.path)) for member in members if member.path not in used)


def _divided(stem: str, members: Sequence[_Member]) -> Iterator[_Parts]:
    images = [member for member in members if member.is_image]
    beside = [member for member in members if member.extension in _BESIDE]
    images = [member for member in images if member.is_plain] or images
    names = dict.fromkeys(member.name for member in images)
    if len(names) > 1 or (len(names) == 1 and all(member.name in names for member in beside)):
        for name in names:  # by longest names; members with the short name are shared by all
            own = _by_extension(beside, name)
            shared = _by_extension(beside, stem) or _by_extension([it for it in beside if it.name not in names], None)
            yield _Parts(name, [member for member in images if member.name == name], shared | own)
    elif images:
        (name,) = names
        by_stem = _by_extension(beside, stem) | _by_extension(beside, name)
        yield _Parts(stem, images, _by_extension(beside, None) | by_stem)
    else:
        texts = dict.fromkeys(member.name for member in beside if member.extension == "txt")
        for name in texts:
            yield _Parts(name, [], _by_extension(beside, name))


def _by_extension(members: Sequence[_Member], name: str | None) -> dict[str, _Member]:
    """Members by extension, restricted to `name` unless each extension occurs once."""
    found: dict[str, _Member] = {}
    several = set[str]()
    for member in members:
        if name is None or member.name == name:
            several |= {member.extension} & found.keys()
            found[member.extension] = member
    return found if name is not None else {key: value for key, value in found.items() if key not in several}


def _ends(file: BinaryIO, end: int) -> bool:
    """Whether the archive ends with a block of zeros after its last member."""
    file.seek(end)
    return file.read(_BLOCK) == bytes(_BLOCK)
