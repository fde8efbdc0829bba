"""What is looked for, part by part: a text, a picture or a row of the index, each with a weight.

Knows how people write it down. Does not know vectors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuwen.errors import InvalidInput
from tuwen.index.store import row_id
from tuwen.prepare.formats import format_of_name
from tuwen.prepare.sources import is_file
from tuwen.types import Payload

_WEIGHT = re.compile(r"(?P<what>.*):(?P<weight>[0-9]*\.[0-9]+)", re.DOTALL)
"""A weight is a final colon with a decimal number that has a decimal point; `ratio 16:9` has none."""
_TAIL = re.compile(r":[-+]?[0-9.]+")
"""What may be meant as a weight."""
_ID = "id:"


class Named(Protocol):
    """Rows that are named by their paths. An `Index` is that."""

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class RowId:
    """A row of the index, by its id: `Hit.id`. Its vector is there already, so it needs no encoder."""

    id: str

    def __str__(self) -> str:
        """As it is typed: `id:1b671a64-40d5-591e-99b0-da01ff1f3341`."""
        return f"{_ID}{self.id}"


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that hits shall be like, or unlike where `weight` is negative.

    Attributes:
        what: a text; a picture's file; a picture file's content; or a row of the index.
        weight: how much it counts.
    """

    what: str | Path | bytes | RowId
    weight: float = 1.0

    def __str__(self) -> str:
        """As people read it: `0.5 * cat.jpg`."""
        factor = "" if abs(self.weight) == 1 else f"{abs(self.weight):g} * "
        shown = "a picture" if isinstance(self.what, bytes) else self.what
        return f"{'- ' if self.weight < 0 else ''}{factor}{shown}"


def parse_term(operand: str, index: "Named | None" = None) -> Term:
    """What `--like` is given: `cat.jpg:0.5`, `at night:2.0`, `id:1b671a64-40d5-591e-99b0-da01ff1f3341`.

    An operand that is an existing file is a picture, also where its name looks as if it had a weight; one that is
    the path of a row of `index` is that row; `id:` begins a row's id; all else is a text.

    Raises:
        InvalidInput: nothing stands after `id:`.
    """
    whole = _not_a_text(operand, index)
    match = None if whole else _WEIGHT.fullmatch(operand)
    if match is None:
        return Term(whole or operand)
    return Term(_not_a_text(match["what"], index) or match["what"], float(match["weight"]))


def doubts(texts: Sequence[str]) -> list[str]:
    """A line about each operand that became a text, and reads like the name of a picture's file."""
    named = [text for text in texts if format_of_name(_TAIL.sub("", text))]
    return [f"{text} is no file and no row: it is looked for as a text; a weight is written :0.5" for text in named]


def describe(terms: Sequence[Term]) -> str:
    """What is looked for, in one line: `at night + 0.5 * cat.jpg - people`."""
    first, *others = [str(term) for term in terms]
    return first + "".join(f" {other}" if other.startswith("- ") else f" + {other}" for other in others)


def _not_a_text(operand: str, index: "Named | None") -> Path | RowId | None:
    """The file or the row that an operand names, or None where it is a text, or has a weight that hides it."""
    path = Path(operand)
    if is_file(path):
        return path
    if operand.startswith(_ID):
        return None if _WEIGHT.fullmatch(operand) else _row(operand.removeprefix(_ID))
    if index is not None and operand and index.payloads([operand]):
        return RowId(str(row_id(operand)))
    return None


def _row(given: str) -> RowId:
    if not given.strip():
        raise InvalidInput("id: is not followed by a row's id: copy one from tuwen search --json")
    return RowId(given.strip().lower())
