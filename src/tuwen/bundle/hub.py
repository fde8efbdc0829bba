"""The one door to the model hub: what a repository holds, and the bytes of one file, by `huggingface_hub`.

Mirrors (`HF_ENDPOINT`), tokens (`HF_TOKEN`, or the file that its login writes), proxies and the cache (`HF_HOME`)
are that package's own and work as everywhere else. Its telemetry, and the list that it would fetch to tell which
program runs it, are shut off. Does not know which files make a model.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

from tuwen.errors import PullFailed

TRIES = 5
"""How often a transfer is taken up again without a single new byte before it is given up."""

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
    """A repository as it is now: its name, its commit and its files."""

    name: str
    commit: str
    files: tuple[RemoteFile, ...]


def import_hub() -> ModuleType:
    """The package `huggingface_hub`, with what it would tell of its user shut off."""
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # read at each request, so it is not too late after the import
    return huggingface_hub


def endpoint() -> str:
    """The hub's address, or the mirror's that `HF_ENDPOINT` names."""
    address: str = import_hub().constants.ENDPOINT
    return address


def is_forbidden() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids to ask it."""
    forbidden: bool = import_hub().constants.HF_HUB_OFFLINE
    return forbidden


def look_up(name: str) -> Repository:
    """Ask what a repository holds. Waits and asks again where the hub is busy.

    Raises:
        PullFailed: it does not answer, or refuses; the message says why.
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
        raise PullFailed(f"{endpoint()} answers for {name}, but not as a hub does ({error!r})") from error


def _file(sibling: dict[str, Any]) -> RemoteFile:
    large = sibling.get("lfs")
    digest = large["sha256"] if large else sibling["blobId"]
    return RemoteFile(str(sibling["rfilename"]), int(sibling["size"]), str(digest))


def transfer(repository: Repository, file: RemoteFile, part: Path) -> Iterator[int]:
    """Bring a file's bytes into `part`, from where it ends; yields how many are there.

    A connection that breaks is taken up again. What is in `part` already is not asked for again, whoever wrote it.

    Raises:
        PullFailed: refused, or broken `TRIES` times without a new byte; `part` stays, to go on from.
    """
    from httpx2 import TransportError

    broken, reason = 0, ""
    with _told(repository.name):
        while (have := _size(part)) != file.size:
            if have > file.size:
                part.unlink()  # of another file, or of a hub that ignored where we were
                continue
            if broken > TRIES:
                raise PullFailed(f"{endpoint()} ends {file.name} at {have:,} of {file.size:,} bytes{reason}")
            time.sleep(broken * 0.5)
            try:
                yield from _stream(repository, file, part, have)
            except TransportError as error:
                reason = f": {str(error) or type(error).__name__}"
            broken = 0 if _size(part) > have else broken + 1
            if _size(part) < file.size:
                _LOG.info("%s broke at %s of %s bytes; going on", file.name, f"{_size(part):,}", f"{file.size:,}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _stream(repository: Repository, file: RemoteFile, part: Path, have: int) -> Iterator[int]:
    """One request. A hub that does not do ranges sends all; then the part begins anew."""
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
            for chunk in response.iter_bytes():  # as they come: what is on disk need not come again
                stream.write(chunk)
                have += len(chunk)
                yield have


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Within the block, the package's warnings are lines of ours, and its errors one of ours."""
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    theirs = logging.getLogger("huggingface_hub")
    before, relay = (list(theirs.handlers), theirs.propagate), _Relay()
    theirs.handlers, theirs.propagate = [relay], False
    try:
        yield
    except HfHubHTTPError as error:
        raise PullFailed(f"{endpoint()} {_refusal(error, name)}") from error
    except HFValidationError as error:
        raise PullFailed(f"{name!r} is no name of a repository: it would be ORG/NAME") from error
    except (HTTPError, InvalidURL, OfflineModeIsEnabled) as error:
        reason = str(error).strip() or type(error).__name__
        raise PullFailed(f"{endpoint()} cannot be reached: {reason.splitlines()[0]}") from error
    finally:
        theirs.handlers, theirs.propagate = before


def _refusal(error: Any, name: str) -> str:  # noqa: ANN401  (HfHubHTTPError; its package is imported when needed)
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"gives {name} only to who has agreed to its terms: agree there, and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"has no {name}, or not for everybody ({status}): for a private one, set HF_TOKEN"
    said = {
        HTTPStatus.UNAUTHORIZED: f"does not give {name} to everybody (401): set HF_TOKEN, or a newer one",
        HTTPStatus.FORBIDDEN: "does not let this token read it (403)",
        HTTPStatus.TOO_MANY_REQUESTS: "has had too many requests (429), also after waiting",
    }
    return said.get(status, f"answers {status} {HTTPStatus(status).phrase}, also after waiting")


class _Relay(logging.Handler):
    """Says again, as ours, what the package says: its own handler writes to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _LOG.info("%s", record.getMessage().strip().splitlines()[0])
