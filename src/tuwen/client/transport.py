"""One request, one answer: the address, the key, waiting where the service is busy, and errors as ours.

Knows HTTP. Does not know what is asked for, nor what an answer means.
"""

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

# ---- Answers that are no good, and no answers: as errors of ours, one clear line each.

_FIRST_PAUSE = 0.25
"""seconds before a busy service that does not say how long is asked again; doubled each time"""

_KINDS: Mapping[int, tuple[type[TuwenError], str]] = {
    401: (KeyRefused, "{url} refuses: {said}; the key goes into TUWEN_KEY, or into tuwen.Client(url, key=…)"),
    403: (KeyRefused, "{url} refuses: {said}"),
    404: (NotFound, "{said}"),
    413: (TooLarge, "{said}"),
    429: (ServiceBusy, "{url} is busy, also after waiting: {said}"),
}
"""What a status is where it has a class of its own, and the line that says so."""


def busy_seconds(answer: httpx2.Response, attempt: int) -> float | None:
    """How long to wait before asking again; None where asking again is of no use.

    Args:
        answer: what the service said.
        attempt: which it was, from 1.
    """
    if answer.status_code not in (429, 503):
        return None
    try:
        return max(0.0, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return float(_FIRST_PAUSE * 2 ** (attempt - 1))


def fault_of(answer: httpx2.Response, url: str) -> TuwenError:
    """What an answer that is no success is, as an error."""
    status, said = answer.status_code, _message(answer)
    if status in _KINDS:
        kind, line = _KINDS[status]
        return kind(line.format(url=url, said=said))
    if 400 <= status < 500:
        return InvalidInput(said)
    if 300 <= status < 400:
        return ServiceFault(f"{url} sends one elsewhere: give the address {answer.headers.get('Location')}")
    return ServiceFault(f"{url} failed: {said} (status {status})")


def unreachable(url: str, error: httpx2.HTTPError) -> ServiceUnreachable:
    """Nothing came back."""
    if isinstance(error, httpx2.ConnectError):
        return ServiceUnreachable(f"no service answers at {url}: start one with tuwen serve, or check the address")
    if isinstance(error, httpx2.TimeoutException):
        return ServiceUnreachable(f"{url} has not answered in time: give it more with timeout=…, or look at its load")
    return ServiceUnreachable(f"the connection to {url} broke: {str(error) or type(error).__name__}; ask again")


def _message(answer: httpx2.Response) -> str:
    """The service's own line; what a proxy before it says has no such shape."""
    try:
        found: Any = answer.json()
        return str(found["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase or f"status {answer.status_code}"


# ---- One request

ATTEMPTS = 4
"""how often a request is sent at most, where the service says that it is busy or a connection breaks"""

Files: TypeAlias = Sequence[tuple[str, tuple[str, bytes]]]
"""form field, (file name, content): as a form sends them"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sent: a JSON document, or files, or neither; and what stands behind the `?`."""

    json: Mapping[str, object] | None = None
    files: Files | None = None
    params: Mapping[str, str | int] | None = None

    def as_sent(self) -> dict[str, Any]:
        """For `httpx2.Client.request`. JSON in ASCII: half a surrogate pair in a text has no UTF-8."""
        if self.json is None:
            return {"files": self.files, "params": self.params}
        content = json.dumps(self.json).encode("ascii")
        return {"content": content, "headers": {"Content-Type": "application/json"}, "params": self.params}


class Transport:
    """Connections to one service, kept open and shared by threads."""

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        """Nothing is sent yet.

        Raises:
            InvalidInput: the address is no http or https address, or the key can be no key.
        """
        self.url = _checked(url)
        self._timeout = timeout
        self._http = httpx2.Client(base_url=self.url, headers=_headers(key), timeout=timeout)

    def document(self, method: str, path: str, asked: Asked | None = None) -> dict[str, Any]:
        """Ask, and read the answer as JSON.

        Raises:
            ServiceFault: see `content`; or the answer is no JSON object, so something else answers at this address.
        """
        answer = self._answer(method, path, asked or Asked())
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServiceFault(f"what answers at {self.url}{path} is no tuwen service: check the address")
        return found

    def content(self, path: str) -> bytes:
        """The bytes that are at a path.

        Raises:
            ServiceUnreachable: nothing answers.
            KeyRefused: the key is missing, wrong, or does not allow this.
            ServiceBusy: it is, and stayed so.
            InvalidInput: it cannot do what was asked, for a reason that the message has.
            ServiceFault: it failed.
        """
        return self._answer("GET", path, Asked()).content

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._http.close()

    def _answer(self, method: str, path: str, asked: Asked) -> httpx2.Response:
        """The answer, if it is a good one. Asked again where the service is busy, as long as `timeout` allows.

        Every call of the service may be repeated: pictures that are uploaded twice are one. Only DELETE is not
        where a connection broke: the second time, it would say that there is no such row.
        """
        patience = time.monotonic() + self._timeout
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
            pause = busy_seconds(answer, attempt)
            if pause is None or last or time.monotonic() + pause > patience:
                raise fault_of(answer, self.url)
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def _headers(key: str | None) -> dict[str, str]:
    if not key:
        return {}
    if not key.isascii() or not key.isprintable():
        raise InvalidInput("the key can be no key of a service: it has characters beyond printable ASCII")
    return {"Authorization": f"Bearer {key}"}


def _checked(url: str) -> str:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidInput(f"{url!r} is no address: {error}; e.g. http://127.0.0.1:8000") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput(f"{url!r} is no address of a service: it begins with http:// or https://")
    return url.rstrip("/")
