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


def hits_as_documents(hits: Sequence[Hit]) -> list[dict[str, object]]:
    """Hits as `search --json` prints them."""
    return [{"id": hit.id, "score": hit.score, "payload": dict(hit.payload)} for hit in hits]


def row_as_document(row: Stored) -> dict[str, object]:
    """A row as `index list --json` prints it."""
    return {"id": row.id, "payload": dict(row.payload)}
