"""What hits shall be like, and how much -> what a request says of it.

Knows texts, pictures and rows. Does not know what is made of them.
"""

from pathlib import Path
from typing import TypeAlias

from PIL import Image

from tuwen.client.pictures import data_url
from tuwen.tasks.search import RowId, Term
from tuwen.types import Hit

AnyTerm: TypeAlias = Term | RowId | Hit | str | Path | bytes | Image.Image
"""A text, a picture (path, bytes, image of Pillow), a row (a hit, or its `RowId`); in a `Term` with a weight."""


def id_of(row: str | Hit | RowId) -> str:
    """A row's id."""
    return row if isinstance(row, str) else row.id


def term_document(term: AnyTerm) -> dict[str, object]:
    """A term as POST /v1/recommend takes it."""
    if isinstance(term, Term):
        return term_document(term.what) | {"weight": term.weight}
    if isinstance(term, Hit | RowId):
        return {"id": term.id}
    return {"text": term} if isinstance(term, str) else {"image": data_url(term)}
