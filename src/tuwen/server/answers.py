"""JSON as it is sent. Answers are written straight from plain values: checking our own would double their cost."""

import json
from collections.abc import Sequence

from starlette.responses import Response

from tuwen.index.store import Stored
from tuwen.types import Hit


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
