"""What a service tells of itself: one JSON document a line. What was asked for is left out unless it is wanted."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from starlette.types import Scope

from tuwen.server.config import Log

_LOGGER = logging.getLogger("tuwen.server")


class JsonLines(logging.Formatter):
    """Log records as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            document["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(document)


def write_logs(level: Log) -> None:
    """For a program that owns its process: the logs of this service and of its listener, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for logger in (_LOGGER, logging.getLogger("uvicorn.error")):
        logger.handlers[:] = [handler] if level != "none" else [logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.WARNING if level == "errors" else logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def route_of(scope: Scope) -> str:
    """The pattern of the route that was found for a request: it says nothing of what was asked for."""
    return str(getattr(scope.get("route"), "path", "") or "none")


class RequestLog:
    """A line for every request, as far as `level` wants them."""

    def __init__(self, level: Log) -> None:
        self._level = level

    def request(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """An answer was given, or its client did not wait for it."""
        if self._level not in ("requests", "queries"):
            return
        fields = {
            "id": request_id,
            "method": scope["method"],
            "route": route_of(scope),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": scope["client"][0] if scope.get("client") else "",
        }
        if self._level == "queries":
            fields |= {"path": scope["path"], "query": scope["state"].get("query", "")}
        _LOGGER.info("request", extra={"fields": fields})

    def error(self, error: Exception, request_id: str) -> None:
        """Something that is not the client's fault, with the place in the code."""
        _LOGGER.error("error", exc_info=error, extra={"fields": {"id": request_id}})
