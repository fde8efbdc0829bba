"""Read and check a bundle, or write one beside its place and rename it into place."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tuwen.bundle import manifest as layout
from tuwen.bundle.companions import check_companions
from tuwen.bundle.files import cached_sha256, sha256, sync
from tuwen.bundle.manifest import PRECISIONS, File, Manifest, Precision
from tuwen.errors import BundleChanged, BundleInvalid, BundleNotFound

_AGAIN = "export or pull the model again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model on disk.

    Attributes:
        folder: where it is.
        manifest: what it is.
        graphs: the ONNX file of each tower at each of its precisions.
        tokenizer: its `tokenizer.json`.
    """

    folder: Path
    manifest: Manifest
    graphs: dict[tuple[layout.Tower, Precision], Path]
    tokenizer: Path

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that both towers have, best first."""
        return tuple(p for p in PRECISIONS if ("vision", p) in self.graphs and ("text", p) in self.graphs)


def read_bundle(folder: Path, cache: Path | None = None) -> Bundle:
    """Read a bundle that tuwen wrote, and check every file against its size and sha256.

    Args:
        folder: the bundle.
        cache: where digests of unchanged files are stored (see `cached_sha256`).

    Raises:
        BundleNotFound: there is no `tuwen.json`.
        BundleInvalid: a field of the manifest is missing, unknown or impossible, it names no graphs, or another file
            contradicts it.
        BundleChanged: a file is missing or was changed.
    """
    manifest = read_manifest(folder)
    for name, file in manifest.files.items():
        check_file(folder / name, file, cache)
    graphs = {
        (tower, precision): folder / layout.graph(tower, precision)
        for tower in layout.TOWERS
        for precision in PRECISIONS
        if layout.graph(tower, precision) in manifest.files
    }
    bundle = Bundle(folder, manifest, graphs, folder / layout.TOKENIZER)
    if not bundle.precisions:
        raise BundleInvalid(
            f"{folder / layout.MANIFEST} names no precision that both towers have; export the model again",
            value=sorted(graphs),
            where=folder / layout.MANIFEST,
            hint="export the model again",
        )
    if layout.TOKENIZER not in manifest.files:
        raise BundleInvalid(
            f"{folder / layout.MANIFEST} names no {layout.TOKENIZER}; export the model again",
            where=folder / layout.MANIFEST,
            hint="export the model again",
        )
    check_companions(folder, manifest)
    return bundle


def read_manifest(folder: Path) -> Manifest:
    """Read `tuwen.json` alone, without looking at the files that it names."""
    path = folder / layout.MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        aside = [path for path in _asides(folder) if (path / folder.name / layout.MANIFEST).exists()]
        hint = f"a write was killed here; the bundle before it is {aside[0] / folder.name}" if aside else ""
        raise BundleNotFound(
            f"there is no bundle at {folder}: {layout.MANIFEST} is missing{hint and f' ({hint})'}",
            where=folder,
            hint=hint,
        ) from error
    except ValidationError as error:
        raise BundleInvalid(
            f"{path}: {first_fault(error)}; export the model again, or correct that field",
            value=field_of(error),
            where=path,
            hint="export the model again, or correct that field",
        ) from error


def first_fault(error: ValidationError) -> str:
    """The first of pydantic's errors: field and reason, in one line."""
    reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    return f"{field_of(error) or 'the file'}: {reason}"


def field_of(error: ValidationError) -> str:
    """The dotted name of the first field that is wrong; empty if the file as a whole is."""
    return ".".join(str(part) for part in error.errors()[0]["loc"])


def check_file(path: Path, expected: File, cache: Path | None) -> None:
    """Compare a file with its size and sha256 in a manifest.

    Raises:
        BundleChanged: it is missing or was changed; `.where` is the file.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise BundleChanged(
            f"{path} is missing, but the manifest names it; {_AGAIN}", where=path, hint=_AGAIN
        ) from error
    if size != expected.bytes:
        raise BundleChanged(
            f"{path} has {size} bytes, but the manifest says {expected.bytes}; {_AGAIN}",
            value=size,
            where=path,
            hint=_AGAIN,
        )
    try:
        digest = cached_sha256(path, cache)
    except OSError as error:
        raise BundleChanged(f"{path} cannot be read: {error.strerror}; {_AGAIN}", where=path, hint=_AGAIN) from error
    if digest != expected.sha256:
        raise BundleChanged(
            f"{path} has sha256 {digest[:12]}…, but the manifest says {expected.sha256[:12]}…; {_AGAIN}",
            value=digest,
            where=path,
            hint=_AGAIN,
        )


@contextmanager
def writing(folder: Path, mark: str = layout.MANIFEST) -> Iterator[Path]:
    """A temporary folder beside `folder` to write a bundle into, renamed into place at the end of the block.

    Write the files, `seal` them, and leave the block. If the block raises or the process is killed, `folder` stays as
    it was; what a killed process leaves is removed a day later. If it is killed between the two renames that replace
    an older bundle, there is no `folder`, and the error on reading it says where the older bundle is. An older bundle
    is replaced as a whole; a folder that is not a bundle (has no file `mark`) is refused.

    Raises:
        BundleInvalid: `folder` exists and is not a bundle, or cannot be replaced as a whole.
    """
    if folder.name in ("", "..") or os.path.ismount(folder):  # before the work
        hint = "name a folder inside it"
        raise BundleInvalid(f"{folder} cannot be replaced as a whole, as a bundle is; {hint}", where=folder, hint=hint)
    if folder.exists() and any(folder.iterdir()) and not (folder / mark).exists():
        raise BundleInvalid(
            f"{folder} exists and is not a bundle (it has no {mark}); choose another folder, or remove it",
            where=folder,
            hint="choose another folder, or remove it",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield aside
        _replace(folder, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Hash every file in `folder`, write `tuwen.json` with them, and return the manifest as written."""
    files = {
        path.relative_to(folder).as_posix(): File(sha256=sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / layout.MANIFEST
    }
    sealed = manifest.model_copy(update={"files": files})
    text = json.dumps(sealed.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    (folder / layout.MANIFEST).write_text(text, encoding="utf-8")
    return sealed


def _replace(folder: Path, aside: Path) -> None:
    """Rename `aside` to `folder`. POSIX cannot rename over a folder with files, so an older bundle is moved first."""
    aside.chmod(0o755)
    for path in aside.rglob("*"):
        if path.is_file():
            sync(path)
    if not folder.exists():
        aside.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / folder.name)
    aside.rename(folder)
    shutil.rmtree(old)


def _asides(folder: Path) -> list[Path]:
    """Folders that killed writes left beside `folder`: `.name-` or `.name-old-`, and eight characters."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}-(old-)?[a-z0-9_]{{8}}")
    return sorted(path for path in folder.parent.glob(".*-*") if pattern.fullmatch(path.name))


def _sweep(folder: Path) -> None:
    """Remove these when they are a day old, but never an older bundle that has not been replaced."""
    for path in _asides(folder):
        old_enough = time.time() - path.stat().st_mtime > 24 * 3600
        if old_enough and (folder.exists() or not (path / folder.name).exists()):
            shutil.rmtree(path, ignore_errors=True)
