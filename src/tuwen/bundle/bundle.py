"""A bundle on disk: read and checked, or written aside and renamed into place.

Knows folders and hashes. Does not know how to run a graph, nor where models are kept on a machine.
"""

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


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model on disk.

    Attributes:
        folder: where it is.
        manifest: what it is.
        graphs: the ONNX file of each tower at each precision it has.
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
    """Read a bundle that tuwen wrote, and check every file it names against size and sha256.

    Args:
        folder: the bundle.
        cache: where digests of unchanged files are remembered (see `cached_sha256`).

    Raises:
        BundleNotFound: there is no `tuwen.json`.
        BundleInvalid: the manifest has a missing, unknown or impossible field, or names no graphs; or
            another file says otherwise.
        BundleChanged: a file is absent or not the one that was written.
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
        raise BundleInvalid(f"{folder / layout.MANIFEST} names no precision that both towers have; export it again")
    if layout.TOKENIZER not in manifest.files:
        raise BundleInvalid(f"{folder / layout.MANIFEST} names no {layout.TOKENIZER}; export it again")
    check_companions(folder, manifest)
    return bundle


def read_manifest(folder: Path) -> Manifest:
    """Read `tuwen.json` alone, without looking at the files that it names."""
    path = folder / layout.MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        aside = [path for path in _asides(folder) if (path / folder.name / layout.MANIFEST).exists()]
        hint = f" (a write was killed here: the bundle before it is {aside[0] / folder.name})" if aside else ""
        raise BundleNotFound(f"there is no bundle at {folder}: {layout.MANIFEST} is missing{hint}") from error
    except ValidationError as error:
        raise BundleInvalid(f"{path}: {first_fault(error)} (export the model again, or mend that field)") from error


def first_fault(error: ValidationError) -> str:
    """The first of what pydantic found wrong: field and reason, in one line."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{field}: {first['msg'].removeprefix('Value error, ')}"


def check_file(path: Path, expected: File, cache: Path | None) -> None:
    """Compare a file with what a manifest says of it.

    Raises:
        BundleChanged: it is absent, or another.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise BundleChanged(
            f"{path} is missing, but its bundle's manifest names it; export or pull it again"
        ) from error
    if size != expected.bytes:
        raise BundleChanged(f"{path} has {size} bytes, its manifest says {expected.bytes}; export or pull it again")
    try:
        digest = cached_sha256(path, cache)
    except OSError as error:
        raise BundleChanged(f"{path} cannot be read: {error.strerror}; export or pull it again") from error
    if digest != expected.sha256:
        raise BundleChanged(f"{path} has sha256 {digest[:12]}…, its manifest says {expected.sha256[:12]}…")


@contextmanager
def writing(folder: Path, mark: str = layout.MANIFEST) -> Iterator[Path]:
    """A folder beside `folder` to write a bundle into; renamed into place when the block ends well.

    Put the files there, `seal` them, and leave the block. A block that raises leaves `folder` as it was. So does a
    process that is killed, and what it left beside `folder` goes a day later; killed between the two renames that
    replace an older bundle, it leaves no `folder`, and the error of whoever reads it says where the older one is.
    An older bundle is replaced as a whole; a folder that is no bundle (has no file `mark`) is refused.

    Raises:
        BundleInvalid: `folder` exists and is not a bundle, or cannot be replaced as a whole.
    """
    if folder.name in ("", "..") or os.path.ismount(folder):  # told now, not when all work is done
        raise BundleInvalid(f"{folder} cannot be replaced as a whole, as a bundle is: name a folder in it")
    if folder.exists() and any(folder.iterdir()) and not (folder / mark).exists():
        raise BundleInvalid(
            f"{folder} exists and is not a bundle (it has no {mark}): choose another folder, or remove it"
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
    """Rename `aside` to `folder`. POSIX renames no folder over a full one, so an older bundle steps aside first."""
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
    """What writes that were killed left beside `folder`: `.name-` or `.name-old-`, and eight letters."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}-(old-)?[a-z0-9_]{{8}}")
    return sorted(path for path in folder.parent.glob(".*-*") if pattern.fullmatch(path.name))


def _sweep(folder: Path) -> None:
    """Remove them once they are a day old; never the older bundle where there is no newer one."""
    for path in _asides(folder):
        old_enough = time.time() - path.stat().st_mtime > 24 * 3600
        if old_enough and (folder.exists() or not (path / folder.name).exists()):
            shutil.rmtree(path, ignore_errors=True)
