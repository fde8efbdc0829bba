"""Files of a hub's repository, into the cache of `huggingface_hub`: checked, taken up again where they broke off.

Knows the cache's folders, blobs named by digest and snapshots that point to them, so that other programs find there
what was fetched here, and the other way round. That package loads a file anew after it was killed; here a part that
is on disk is gone on with, by any later process. Does not know models: `choose` says which files are wanted.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuwen.bundle.hub import RemoteFile, Repository, endpoint, import_hub, is_forbidden, look_up, transfer
from tuwen.bundle.remembered import recall, remember
from tuwen.errors import PullFailed

Choose = Callable[[Sequence[str]], list[str]]
"""A repository's file names, to those that are wanted; raises PullFailed where needed ones are not there."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """How far a fetch is.

    Attributes:
        done: bytes that are here.
        total: bytes that are wanted.
        folder: the files, once all are here: read-only, they belong to the cache.
    """

    done: int
    total: int
    folder: Path | None = None


def fetch(name: str, choose: Choose, *, cache: Path, offline: bool) -> Iterator[Fetched]:
    """Bring files of a repository here; the last thing yielded has their folder.

    Nothing is asked of the hub if they are here already. Two processes that fetch the same share the work.

    Args:
        name: `ORG/NAME`.
        choose: which of its files.
        cache: where it is remembered which files were wanted.
        offline: forbids to ask the hub.

    Raises:
        PullFailed: the hub may not be asked, does not answer, or what it sends is not what it announced.
    """
    forbidden = offline or is_forbidden()
    here = find_here(name, choose, cache=cache, offline=forbidden)
    if here is not None:
        yield Fetched(1, 1, here)
        return
    if forbidden:
        raise PullFailed(f"{name} is not in the hub's cache here, and asking the hub is forbidden (offline)")
    repository = look_up(name)
    wanted = set(choose([file.name for file in repository.files]))
    files = [file for file in repository.files if file.name in wanted]
    total = sum(file.size for file in files)
    done = 0
    _check_space(total - sum(_at_hand(repository, file) for file in files))
    yield Fetched(done, total)
    for file in files:
        for have in _bring(repository, file):
            yield Fetched(done + have, total)
        done += file.size
    folder = _file_all(repository, files)
    remember(_memory(cache, name), {"commit": repository.commit, "files": {file.name: file.size for file in files}})
    yield Fetched(total, total, folder)


def find_here(name: str, choose: Choose, *, cache: Path, offline: bool) -> Path | None:
    """The folder of files that are here, all of those that are wanted; None where one is not.

    Args:
        name: `ORG/NAME`.
        choose: which of its files.
        cache: where it is remembered which files were wanted.
        offline: take what another program has fetched, too, which may be less than the hub has.
    """
    known = recall(_memory(cache, name))
    if isinstance(known, dict) and {"commit", "files"} <= set(known):
        folder = _storage(name) / "snapshots" / str(known["commit"])
        return folder if _holds(folder, known["files"], choose) else None
    return _found_by_others(name, choose) if offline else None


def _memory(cache: Path, name: str) -> Path:
    return cache / "fetched" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _holds(folder: Path, sizes: dict[str, int], choose: Choose) -> bool:
    try:
        return all((folder / wish).stat().st_size == sizes[wish] for wish in choose(list(sizes)))
    except (OSError, PullFailed):
        return False


def _found_by_others(name: str, choose: Choose) -> Path | None:
    storage = _storage(name)
    try:
        folder = storage / "snapshots" / (storage / "refs" / "main").read_text(encoding="utf-8").strip()
        choose([path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])
    except (OSError, PullFailed):
        return None
    return folder


def _storage(name: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    import_hub()
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _bring(repository: Repository, file: RemoteFile) -> Iterator[int]:
    """A file's bytes into the cache, under its digest; yields how many are here. One process at a time does it."""
    from huggingface_hub.utils import WeakFileLock

    storage = _storage(repository.name)
    blob = storage / "blobs" / file.digest
    part = blob.with_name(f"{file.digest}.incomplete")
    lock = storage.parent / ".locks" / storage.name / f"{file.digest}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        yield from transfer(repository, file, part)
        if file.size == 0:
            part.touch()
        if _digest(part, file) != file.digest:
            part.unlink()
            raise PullFailed(
                f"{file.name} of {repository.name} came from {endpoint()} with another digest than was announced: "
                "pull it again, and if it stays so, from another mirror"
            )
        part.rename(blob)


def _digest(path: Path, file: RemoteFile) -> str:
    """sha256, or what git calls a small file: sha1 over its length and bytes."""
    with path.open("rb") as stream:
        if len(file.digest) == 64:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        return hashlib.sha1(b"blob %d\0" % file.size + stream.read(), usedforsecurity=False).hexdigest()


def _at_hand(repository: Repository, file: RemoteFile) -> int:
    """How many of a file's bytes are here already."""
    blob = _storage(repository.name) / "blobs" / file.digest
    part = blob.with_name(f"{file.digest}.incomplete")
    return file.size if blob.exists() else min(part.stat().st_size, file.size) if part.exists() else 0


def _check_space(needed: int) -> None:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise PullFailed(f"{needed:,} bytes are to come and {place} has {free:,} free: make room, or set HF_HOME")


def _file_all(repository: Repository, files: Sequence[RemoteFile]) -> Path:
    """The snapshot's folder: each file is in the cache by its digest, and is given its name there."""
    storage = _storage(repository.name)
    folder = storage / "snapshots" / repository.commit
    for file in files:
        place = folder / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            _point(storage / "blobs" / file.digest, place)
    main = storage / "refs" / "main"
    main.parent.mkdir(parents=True, exist_ok=True)
    main.write_text(repository.commit, encoding="utf-8")
    return folder


def _point(blob: Path, place: Path) -> None:
    """A relative link, so that the cache may be moved; a copy where there are no links."""
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(os.path.relpath(blob, place.parent))
    except FileExistsError:
        return  # another process was faster
    except OSError:
        shutil.copyfile(blob, place)
