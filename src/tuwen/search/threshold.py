"""The score below which nothing matches a query, as it was measured: `--min-score auto`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tuwen.errors import InvalidInput
from tuwen.index.calibration import Calibration, QueryKind
from tuwen.index.manifest import Info
from tuwen.index.store import Stored
from tuwen.search.query import RowId, Term, describe

_CHANGED = 2
"""by which factor an index may grow or shrink before its thresholds are doubted"""
_NAMES = {"text": "texts", "image": "pictures"}


class Rows(Protocol):
    """Rows by id: of an index, or behind a service."""

    def get(self, ids: Sequence[str]) -> dict[str, Stored]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Auto:
    """A threshold, and a line if there is reason to doubt it, else an empty one."""

    min_score: float
    doubt: str


def auto_threshold(terms: Sequence[Term], rows: Rows, info: Info, calibration: Calibration | None) -> Auto:
    """The threshold that was measured for queries of this kind on an index.

    Args:
        terms: the query.
        rows: the rows of the index.
        info: facts about the index.
        calibration: the thresholds that were measured on it, if any.

    Raises:
        InvalidInput: none was measured; or texts and pictures are mixed, whose scores have no common scale.
    """
    kinds = {_kind(term, rows) for term in terms}
    if len(kinds) > 1:
        raise InvalidInput(
            f"no threshold holds for texts and pictures together ({describe(terms)}): give a number instead of auto"
        )
    kind: QueryKind = kinds.pop() if kinds else "text"
    measured = None if calibration is None else calibration.text if kind == "text" else calibration.image
    if measured is None:
        raise InvalidInput(
            f"no threshold was measured for {_NAMES[kind]} on {info.index}: run tuwen calibrate on it, or "
            "give a number instead of auto"
        )
    return Auto(measured.threshold, _doubt(measured.rows, info.rows))


def _doubt(then: int, now: int) -> str:
    if then <= _CHANGED * now and now <= _CHANGED * then:
        return ""
    return f"the threshold was measured on {then:,} rows, there are {now:,} now: run tuwen calibrate again"


def _kind(term: Term, rows: Rows) -> QueryKind:
    if isinstance(term.what, RowId):
        row = rows.get([term.what.id]).get(term.what.id)
        return "text" if row is not None and row.payload.get("type") == "text" else "image"
    return "text" if isinstance(term.what, str) else "image"
