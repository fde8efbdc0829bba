"""Answers that are no good, and no answers: as errors of ours, one clear line each.

Knows status codes and the service's one error shape. Does not know what was asked.
"""

from collections.abc import Mapping
from typing import Any

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
        return ServiceUnreachable(
            f"{url} has not answered in time: give it more with timeout=…, or look at its load"
        )
    return ServiceUnreachable(f"the connection to {url} broke: {str(error) or type(error).__name__}; ask again")


def _message(answer: httpx2.Response) -> str:
    """The service's own line; what a proxy before it says has no such shape."""
    try:
        found: Any = answer.json()
        return str(found["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase or f"status {answer.status_code}"
