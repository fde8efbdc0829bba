"""Times as people write them in a filter: "2024", "2024-05", "2024-05-01", "2024-05-01T12:00+02:00".

Knows the calendar, on this machine's clock unless a time says otherwise. Does not know rows.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime

from tuwen.index.conditions import And, Compare, Condition, Operator


@dataclass(frozen=True, slots=True)
class Period:
    """From `first`, up to but not at `after`, in seconds since 1970; a moment where both are the same."""

    first: float
    after: float


def read_period(text: str) -> Period:
    """A year, a month or a day as a whole, or a moment.

    Raises:
        ValueError: it is none of these.
        OverflowError: it is beyond what this machine can count.
    """
    found = re.fullmatch(r"(\d{4})(?:-(\d\d))?", text)
    if found:
        year, month = int(found[1]), int(found[2] or 1)
        after = datetime(year + month // 12, month % 12 + 1, 1) if found[2] else datetime(year + 1, 1, 1)
        return Period(datetime(year, month, 1).timestamp(), after.timestamp())
    try:
        day = date.fromisoformat(text).toordinal()
    except ValueError:
        moment = datetime.fromisoformat(text).timestamp()
        return Period(moment, moment)
    return Period(datetime.fromordinal(day).timestamp(), datetime.fromordinal(day + 1).timestamp())


def within(field: str, operator: Operator, period: Period) -> Condition:
    """A field against a period: it equals every moment in it, and is less than none of them."""
    if period.first == period.after:
        return Compare(field, operator, period.first)
    match operator:
        case "<":
            return Compare(field, "<", period.first)
        case ">=":
            return Compare(field, ">=", period.first)
        case "<=":
            return Compare(field, "<", period.after)
        case ">":
            return Compare(field, ">=", period.after)
        case _:
            return And((Compare(field, ">=", period.first), Compare(field, "<", period.after)))
