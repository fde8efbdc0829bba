"""Download files from the model hub with `huggingface_hub`.

Mirrors (`HF_ENDPOINT`), tokens (`HF_TOKEN`, or the file that its login writes), proxies and the cache (`HF_HOME`) are
that package's own. Its telemetry is switched off, and so is the request that finds out which program runs it.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

from tuwen.bundle.files import recall, remember
from tuwen.errors import PullFailed

TRIES = 5
"""how many times a transfer is resumed without a new byte before it fails"""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository.

    Attributes:
        name: its path in the repository.
        size: bytes.
        digest: sha256 of a large file (64 hex digits), git's sha1 of a small one (40).
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository: its name, current commit and files."""

    name: str
    commit: str
    files: tuple[RemoteFile, ...]


def import_hub() -> ModuleType:
    """The package `huggingface_hub`, with its telemetry switched off."""
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # read at each request, so it can be set after the import
    return huggingface_hub


def endpoint() -> str:
    """The address of the hub, or of the mirror in `HF_ENDPOINT`."""
    address: str = import_hub().constants.ENDPOINT
    return address


def is_forbidden() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids requests."""
    forbidden: bool = import_hub().constants.HF_HUB_OFFLINE
    return forbidden


def look_up(name: str) -> Repository:
    """Request a repository's commit and files; retries while the hub is busy.

    Raises:
        PullFailed: the hub does not answer, or refuses; the message says why.
    """
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff, validate_repo_id

    url, headers = f"{endpoint()}/api/models/{name}", build_hf_headers()
    with _told(name):
        validate_repo_id(name)
        response = http_backoff("GET", url, headers=headers, params={"blobs": "true"}, timeout=30)
        hf_raise_for_status(response)
        document = response.json()
    try:
        files = tuple(_file(sibling) for sibling in document["siblings"])
        return Repository(name, str(document["sha"]), files)
    except (KeyError, TypeError, ValueError) as error:
        raise PullFailed(f"{endpoint()} did not answer for {name} as a hub does ({error!r})") from error


def _file(sibling: dict[str, Any]) -> RemoteFile:
    large = sibling.get("lfs")
    digest = large["sha256"] if large else sibling["blobId"]
    return RemoteFile(str(sibling["rfilename"]), int(sibling["size"]), str(digest))


def transfer(repository: Repository, file: RemoteFile, part: Path) -> Iterator[int]:
    """Download a file to `part`, from where `part` ends; yields the number of bytes there.

    Broken connections are resumed. Bytes that are in `part` already are not requested again, whoever wrote them.

    Raises:
        PullFailed: refused, or broken `TRIES` times without a new byte; `part` stays, so that a later call resumes.
    """
    from httpx2 import TransportError

    broken, reason = 0, ""
    with _told(repository.name):
        while (have := _size(part)) != file.size:
            if have > file.size:
                part.unlink()  # of another file, or from a hub that ignored the range
                continue
            if broken > TRIES:
                raise PullFailed(
                    f"{endpoint()} stopped sending {file.name} at {have:,} of {file.size:,} bytes{reason}",
                    value=have,
                    where=file.name,
                )
            time.sleep(broken * 0.5)
            try:
                yield from _stream(repository, file, part, have)
            except TransportError as error:
                reason = f": {str(error) or type(error).__name__}"
            broken = 0 if _size(part) > have else broken + 1
            if _size(part) < file.size:
                _LOG.info(
                    "%s was interrupted at %s of %s bytes; resuming", file.name, f"{_size(part):,}", f"{file.size:,}"
                )


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _stream(repository: Repository, file: RemoteFile, part: Path, have: int) -> Iterator[int]:
    """One request. A hub without range requests sends the whole file; then `part` is started again."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    url = hf_hub_url(repository.name, file.name, revision=repository.commit, endpoint=endpoint())
    with http_stream_backoff(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, retry_on_exceptions=()
    ) as response:
        hf_raise_for_status(response)
        goes_on = response.status_code == HTTPStatus.PARTIAL_CONTENT
        have = have if goes_on else 0
        with part.open("ab" if goes_on else "wb", buffering=0) as stream:
            for chunk in response.iter_bytes():  # written as they arrive, so that they need not be sent again
                stream.write(chunk)
                have += len(chunk)
                yield have


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Within the block, the package's warnings go to our log, and its errors are raised as `PullFailed`."""
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    theirs = logging.getLogger("huggingface_hub")
    before, relay = (list(theirs.handlers), theirs.propagate), _Relay()
    theirs.handlers, theirs.propagate = [relay], False
    try:
        yield
    except HfHubHTTPError as error:
        raise PullFailed(
            f"{endpoint()} {_refusal(error, name)}", value=error.response.status_code, where=name
        ) from error
    except HFValidationError as error:
        raise PullFailed(f"{name!r} is not the name of a repository (ORG/NAME)", value=name) from error
    except (HTTPError, InvalidURL, OfflineModeIsEnabled) as error:
        reason = str(error).strip() or type(error).__name__
        raise PullFailed(f"{endpoint()} cannot be reached: {reason.splitlines()[0]}", where=endpoint()) from error
    finally:
        theirs.handlers, theirs.propagate = before


def _refusal(error: Any, name: str) -> str:  # noqa: ANN401  (HfHubHTTPError; its package is imported when needed)
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"gives {name} only to users who have accepted its terms; accept them there, and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"has no repository {name}, or it is private ({status}); for a private one, set HF_TOKEN"
    reasons = {
        HTTPStatus.UNAUTHORIZED: f"requires a valid token for {name} (401); set HF_TOKEN, or renew it",
        HTTPStatus.FORBIDDEN: "does not allow this token to read it (403)",
        HTTPStatus.TOO_MANY_REQUESTS: "received too many requests (429), also after waiting",
    }
    return reasons.get(status, f"answered {status} {HTTPStatus(status).phrase}, also after retries")


class _Relay(logging.Handler):
    """Passes the package's log records on to ours; its own handler writes to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _LOG.info("%s", record.getMessage().strip().splitlines()[0])


Choose = Callable[[Sequence[str]], list[str]]
"""selects from the names of a repository's files; raises PullFailed if a necessary one is missing"""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The progress of a download.

    Attributes:
        done: bytes downloaded.
        total: bytes in all.
        folder: the folder of the files, once all are there; they belong to the cache and must not be changed.
    """

    done: int
    total: int
    folder: Path | None = None


def fetch(name: str, choose: Choose, *, cache: Path, offline: bool) -> Iterator[Fetched]:
    """Download files of a repository; the last item yielded has their folder.

    If they are on this machine, there is no request. Processes that download the same files share the work.

    Args:
        name: `ORG/NAME`.
        choose: selects its files.
        cache: where the selection is stored.
        offline: do not send requests.

    Raises:
        PullFailed: offline, the hub does not answer, or a file differs from its announced digest.
    """
    forbidden = offline or is_forbidden()
    here = find_here(name, choose, cache=cache, offline=forbidden)
    if here is not None:
        yield Fetched(1, 1, here)
        return
    if forbidden:
        raise PullFailed(f"{name} is not in the download cache of this machine, and tuwen is offline", value=name)
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
    """The folder of a repository's files on this machine; None if one of the selected files is missing.

    Args:
        name: `ORG/NAME`.
        choose: selects its files.
        cache: where the selection is stored.
        offline: also accept files that another program downloaded; they may be fewer than the hub has.
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
    """Download a file into the cache under its digest, one process at a time; yields the number of bytes there."""
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
                f"{file.name} of {repository.name} from {endpoint()} has another digest than announced; pull it again, "
                "and if that does not help, from another mirror",
                where=file.name,
            )
        part.rename(blob)


def _digest(path: Path, file: RemoteFile) -> str:
    """sha256; for small files git's sha1, over the length and the bytes."""
    with path.open("rb") as stream:
        if len(file.digest) == 64:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        return hashlib.sha1(b"blob %d\0" % file.size + stream.read(), usedforsecurity=False).hexdigest()


def _at_hand(repository: Repository, file: RemoteFile) -> int:
    """The number of a file's bytes that are in the cache."""
    blob = _storage(repository.name) / "blobs" / file.digest
    part = blob.with_name(f"{file.digest}.incomplete")
    return file.size if blob.exists() else min(part.stat().st_size, file.size) if part.exists() else 0


def _check_space(needed: int) -> None:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise PullFailed(
            f"{needed:,} bytes to download, but {place} has {free:,} free; free some space, or set HF_HOME",
            value=needed,
            where=place,
        )


def _file_all(repository: Repository, files: Sequence[RemoteFile]) -> Path:
    """The snapshot's folder, in which the cached files get their names."""
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
    """A relative link, so that the cache can be moved; a copy if links are not supported."""
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(os.path.relpath(blob, place.parent))
    except FileExistsError:
        return  # another process was faster
    except OSError:
        shutil.copyfile(blob, place)
