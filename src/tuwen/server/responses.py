"""JSON responses, and errors as responses of one shape that never expose the code.

    {"error": {"code": "not_found", "message": "…", "status": 404}}

The routes for OpenAI's clients add the fields that these clients read, `type` and `param`.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticSerializationError, to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from tuwen.errors import IndexFault, InvalidInput, InvalidVectors, RejectedImages
from tuwen.index.store import Stored
from tuwen.types import Hit

CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid_request",
}
OPENAI = ("/v1/embeddings", "/v1/models")
"""routes whose errors have the fields of OpenAI's"""


class Answer(Response):
    """A JSON document."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode as UTF-8; a lone surrogate, which UTF-8 does not have, stays an escape."""
        try:
            return to_json(content, inf_nan_mode="null")  # a tenth of the time that json takes for a vector
        except PydanticSerializationError:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return text.encode("utf-8", "backslashreplace")


class APIError(HTTPException):
    """An error response. It is an HTTPException because the framework replaces all other exceptions."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code


def busy(what: str) -> APIError:
    """429: a queue is full."""
    return APIError(
        429, "busy", f"too many requests are waiting for {what}; try again in a second", {"retry-after": "1"}
    )


def not_found(message: str) -> APIError:
    """404."""
    return APIError(404, "not_found", message)


def invalid(message: str) -> APIError:
    """422: a value cannot be used."""
    return APIError(422, "invalid_request", message)


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


def route_path(scope: Scope) -> str:
    """The path of a request without the prefix of a reverse proxy."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def error_answer(error: APIError, path: str) -> Answer:
    """The response for an error. `path` is the path of the request."""
    document = {"code": error.code, "message": error.detail, "status": error.status_code}
    if path.startswith(OPENAI):
        document |= {"type": "server_error" if error.status_code >= 500 else "invalid_request_error", "param": None}
    return Answer({"error": document}, status_code=error.status_code, headers=error.headers)


def as_api_error(error: Exception) -> APIError:
    """Turn any exception into an error response. Unexpected ones are not described: their traceback goes to the log."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, InvalidInput | RejectedImages | InvalidVectors):
        return invalid(_one_line(str(error)))
    if isinstance(error, IndexFault):
        return APIError(503, "index_unavailable", "the index is not available; see the service's log")
    return APIError(
        500, "internal", "this is a bug in tuwen: the service's log has the details under this request's id"
    )


def plain_error(status: int, headers: Mapping[str, str]) -> APIError:
    """The error for a framework response without a message."""
    return APIError(status, CODES.get(status, "refused"), HTTPStatus(status).phrase.lower(), headers)


async def http_error(request: Request, error: Exception) -> Answer:
    """The response to a request that the framework refuses: an unknown path, a wrong method, a malformed form."""
    assert isinstance(error, HTTPException)
    if isinstance(error, APIError):
        return error_answer(error, route_path(request.scope))
    phrase = HTTPStatus(error.status_code).phrase
    message = _one_line(error.detail) if error.detail and error.detail != phrase else phrase.lower()
    code = CODES.get(error.status_code, "refused")
    return error_answer(APIError(error.status_code, code, message, error.headers), route_path(request.scope))


async def validation_error(request: Request, error: Exception) -> Answer:
    """The response to a request that does not fit its schema, with the first error and its position."""
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    message = _one_line(f"{place}: {str(first['msg']).removeprefix('Value error, ')}")
    return error_answer(invalid(message), route_path(request.scope))


def _one_line(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 500 else f"{line[:499]}…"
