"""JSON answers, and errors as answers in one shape, which never shows where in the code they happened.

    {"error": {"code": "not_found", "message": "…", "status": 404}}

The routes for OpenAI's clients add the fields that these clients read, `type` and `param`.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from tuwen.errors import IndexFault, InvalidInput, InvalidVectors, RejectedImages
from tuwen.index.store import Stored
from tuwen.types import Hit

# ---- JSON as it is sent


class Answer(Response):
    """A JSON document."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """UTF-8; half a surrogate pair, which UTF-8 does not have, stays the escape it came as."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def hits_as_documents(hits: Sequence[Hit], *, similar: bool) -> list[dict[str, object]]:
    """Hits as `search --json` prints them; `similar`: with the rows that were folded into each."""
    if similar:
        return [_document(hit) | {"similar": list(hit.similar)} for hit in hits]
    return [_document(hit) for hit in hits]


def row_as_document(row: Stored) -> dict[str, object]:
    """A row as `index list --json` prints it."""
    return {"id": row.id, "payload": dict(row.payload)}


def _document(hit: Hit) -> dict[str, object]:
    return {"id": hit.id, "score": hit.score, "payload": dict(hit.payload)}


# ---- Errors as answers: one shape for all, one line, and never where in the code it happened.

_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid_request",
}


def route_path(scope: Scope) -> str:
    """The path of a request without the prefix of a reverse proxy."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


class Fault(HTTPException):
    """An error that is answered as it is. An HTTPException: the framework hides all others behind its own."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code


def busy(what: str) -> Fault:
    """A queue is full."""
    return Fault(429, "busy", f"too many requests wait for {what}: try again in a second", {"retry-after": "1"})


def not_found(message: str) -> Fault:
    """There is no such thing here."""
    return Fault(404, "not_found", message)


def invalid(message: str) -> Fault:
    """A value that was given cannot be used."""
    return Fault(422, "invalid_request", message)


OPENAI = ("/v1/embeddings", "/v1/models")


def answer_to(fault: Fault, path: str) -> Answer:
    """The error as it is sent. `path`: of the request."""
    error = {"code": fault.code, "message": fault.detail, "status": fault.status_code}
    if path.startswith(OPENAI):
        error |= {"type": "server_error" if fault.status_code >= 500 else "invalid_request_error", "param": None}
    return Answer({"error": error}, status_code=fault.status_code, headers=fault.headers)


def fault_of(error: Exception) -> Fault:
    """Any error as a fault. What is not foreseen says nothing of itself: that is for the log."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, InvalidInput | RejectedImages | InvalidVectors):
        return invalid(_line(str(error)))
    if isinstance(error, IndexFault):
        return Fault(503, "index_unavailable", "the index cannot be used now: see the service's log")
    return Fault(500, "internal", "this is a bug in tuwen: the service's log says where, under this request's id")


def plain_fault(status: int, headers: Mapping[str, str]) -> Fault:
    """An error of the framework that has no message of its own."""
    return Fault(status, _CODES.get(status, "refused"), HTTPStatus(status).phrase.lower(), headers)


async def http_error(request: Request, error: Exception) -> Answer:
    """What the framework refuses: no such page, a method that a page does not have, a body that is no form."""
    assert isinstance(error, HTTPException)
    if isinstance(error, Fault):
        return answer_to(error, route_path(request.scope))
    phrase = HTTPStatus(error.status_code).phrase
    message = _line(error.detail) if error.detail and error.detail != phrase else phrase.lower()
    code = _CODES.get(error.status_code, "refused")
    return answer_to(Fault(error.status_code, code, message, error.headers), route_path(request.scope))


async def validation_error(request: Request, error: Exception) -> Answer:
    """The first thing that is wrong with a request: where, and why."""
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    fault = invalid(_line(f"{place}: {str(first['msg']).removeprefix('Value error, ')}"))
    return answer_to(fault, route_path(request.scope))


def _line(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 500 else f"{line[:499]}…"
