"""Thresholds measured by calibration, as used by `--min-score auto`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tuwen.errors import InvalidInput
from tuwen.index.calibration import Calibration, QueryKind
from tuwen.index.manifest import Info
from tuwen.index.store import Stored
from tuwen.search.query import RowId, Term, describe

_CHANGED = 2
"""thresholds are doubted once an index has grown or shrunk by more than this factor"""


class Rows(Protocol):
    """Access to rows by id, in an index or through a service."""

    def get(self, ids: Sequence[str]) -> dict[str, Stored]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Auto:
    """A threshold, with a warning if it may be out of date (otherwise empty)."""

    min_score: float
    doubt: str


def auto_threshold(terms: Sequence[Term], rows: Rows, info: Info, calibration: Calibration | None) -> Auto:
    """Return the threshold that was measured for this kind of query on an index.

    Args:
        terms: the query.
        rows: the rows of the index.
        info: facts about the index.
        calibration: the thresholds that were measured on it, if any.

    Raises:
        InvalidInput: no threshold was measured, or the query mixes texts and images, whose scores have no common
            scale.
    """
    kinds = {_kind(term, rows) for term in terms}
    if len(kinds) > 1:
        hint = "give a number instead of auto"
        raise InvalidInput(
            f"there is no threshold for queries of texts and images together ({describe(terms)}): {hint}",
            value=describe(terms),
            hint=hint,
        )
    kind: QueryKind = kinds.pop() if kinds else "text"
    measured = None if calibration is None else calibration.text if kind == "text" else calibration.image
    if measured is None:
        hint = "run tuwen calibrate, or give a number instead of auto"
        raise InvalidInput(
            f"{info.index} has no threshold for {kind} queries: {hint}", value=kind, where=info.index, hint=hint
        )
    return Auto(measured.threshold, _doubt(measured.rows, info.rows))


def _doubt(then: int, now: int) -> str:
    if then <= _CHANGED * now and now <= _CHANGED * then:
        return ""
    return f"the threshold was measured on {then:,} rows, but the index now has {now:,}: run tuwen calibrate again"


def _kind(term: Term, rows: Rows) -> QueryKind:
    if isinstance(term.what, RowId):
        row = rows.get([term.what.id]).get(term.what.id)
        return "text" if row is not None and row.payload.get("type") == "text" else "image"
    return "text" if isinstance(term.what, str) else "image"
