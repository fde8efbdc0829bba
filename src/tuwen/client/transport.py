"""HTTP to one service: connections, the key, retries while it is busy, and its errors as exceptions."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx2

from tuwen.errors import (
    InvalidInput,
    KeyRefused,
    NotFound,
    ServiceBusy,
    ServiceFault,
    ServiceUnreachable,
    TooLarge,
    TuwenError,
)

ATTEMPTS = 4
"""attempts for a request if the service is busy or a connection breaks"""
FIRST_PAUSE = 0.25
"""seconds before the first retry if the service does not ask for a time; doubled each time"""

Files: TypeAlias = Sequence[tuple[str, tuple[str, bytes]]]
"""form field, (file name, content)"""


@dataclass(frozen=True, slots=True)
class Asked:
    """The body of a request, a JSON document or files, and its query parameters."""

    json: Mapping[str, object] | None = None
    files: Files | None = None
    params: Mapping[str, str | int] | None = None

    def as_sent(self) -> dict[str, Any]:
        """Arguments for `httpx2.Client.request`. JSON is ASCII, because lone surrogates cannot be encoded in UTF-8."""
        if self.json is None:
            return {"files": self.files, "params": self.params}
        content = json.dumps(self.json).encode("ascii")
        return {"content": content, "headers": {"Content-Type": "application/json"}, "params": self.params}


class Transport:
    """Connections to one service, kept open and shared by threads."""

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        """Validate the address and the key; nothing is sent yet.

        Raises:
            InvalidInput: `url` is not an http or https address, or the key has characters other than printable ASCII.
        """
        self.url = _checked(url)
        self._timeout = timeout
        self._http = httpx2.Client(base_url=self.url, headers=_headers(key), timeout=timeout)

    def document(self, method: str, path: str, asked: Asked | None = None) -> dict[str, Any]:
        """Send a request and read the response as JSON.

        Raises:
            ServiceFault: see `content`; or the response is not a JSON object.
        """
        answer = self._answer(method, path, asked or Asked())
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServiceFault(f"{self.url}{path} is not a tuwen service: check the address", where=self.url)
        return found

    def content(self, path: str) -> bytes:
        """Download the bytes at a path.

        Raises:
            ServiceUnreachable: there is no response.
            KeyRefused: the key is missing, wrong, or does not allow this.
            ServiceBusy: the service was busy in all attempts.
            InvalidInput: the service refuses the request; the message is the service's own.
            ServiceFault: the service failed.
        """
        return self._answer("GET", path, Asked()).content

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._http.close()

    def _answer(self, method: str, path: str, asked: Asked) -> httpx2.Response:
        """Send a request and return the successful response. Retries within `timeout` while the service is busy.

        All requests may be repeated, because an image that is uploaded twice is one row. Only DELETE is not sent again
        after a broken connection, because the second response would be that there is no such row.
        """
        end = time.monotonic() + self._timeout
        sent = asked.as_sent()
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                answer = self._http.request(method, path, **sent)
            except (httpx2.ReadError, httpx2.RemoteProtocolError) as error:
                if last or method == "DELETE":
                    raise unreachable(self.url, error) from error
                continue
            except httpx2.HTTPError as error:
                raise unreachable(self.url, error) from error
            if answer.is_success:
                return answer
            pause = retry_after(answer, attempt)
            if pause is None or last or time.monotonic() + pause > end:
                raise error_of(answer, self.url)
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def _headers(key: str | None) -> dict[str, str]:
    if not key:
        return {}
    if not key.isascii() or not key.isprintable():
        raise InvalidInput("the key contains characters other than printable ASCII", where="key")
    return {"Authorization": f"Bearer {key}"}


def _checked(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidInput(
            f"{url!r} is not a valid address ({error}): e.g. http://127.0.0.1:8000", value=url
        ) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(
            f"{url!r} is not the address of a service; it must begin with http:// or https://", value=url
        )
    return url.rstrip("/")


_KINDS: Mapping[int, tuple[type[TuwenError], str]] = {
    401: (KeyRefused, "{url}: {message}; set TUWEN_KEY, or pass tuwen.Client(url, key=...)"),
    403: (KeyRefused, "{url}: {message}"),
    404: (NotFound, "{message}"),
    413: (TooLarge, "{message}"),
    429: (ServiceBusy, "{url} is still busy after several attempts: {message}"),
}
"""statuses with their own exception and message"""


def retry_after(answer: httpx2.Response, attempt: int) -> float | None:
    """Seconds to wait before the next attempt; None if a retry would not help."""
    if answer.status_code not in (429, 503):
        return None
    try:
        return max(0.0, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return float(FIRST_PAUSE * 2 ** (attempt - 1))


def error_of(answer: httpx2.Response, url: str) -> TuwenError:
    """The exception for an unsuccessful response."""
    status, message = answer.status_code, _message(answer)
    if status in _KINDS:
        kind, line = _KINDS[status]
        return kind(line.format(url=url, message=message), value=status, where=url)
    if 400 <= status < 500:
        return InvalidInput(message, value=status, where=url)
    if 300 <= status < 400:
        location = answer.headers.get("Location")
        return ServiceFault(f"{url} redirects to {location}: use that address", value=status, where=url)
    return ServiceFault(f"{url} failed: {message} (status {status})", value=status, where=url)


def unreachable(url: str, error: httpx2.HTTPError) -> ServiceUnreachable:
    """The exception for a request without a response."""
    if isinstance(error, httpx2.ConnectError):
        return ServiceUnreachable(
            f"no service answers at {url}: start one with tuwen serve, or check the address", where=url
        )
    if isinstance(error, httpx2.TimeoutException):
        return ServiceUnreachable(f"{url} did not answer in time: allow more with timeout=..., or retry", where=url)
    return ServiceUnreachable(f"the connection to {url} broke: {str(error) or type(error).__name__}; retry", where=url)


def _message(answer: httpx2.Response) -> str:
    """The service's own message; a proxy in front of it may respond with something else."""
    try:
        found: Any = answer.json()
        return str(found["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase or f"status {answer.status_code}"
