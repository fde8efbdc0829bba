"""`beach + 0.5 * sunset - people` -> terms: the only form of a query that is parsed.

Knows where operators stand. Does not know what an operand is: see `terms.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from tuwen.errors import InvalidInput
from tuwen.tasks.terms import Named, Term, parse_term

_OPERATOR = re.compile(r"(?:(?<=\s)|^)[+-](?=\s|$)")
"""A plus or minus with white space around it, or an end: `T-shirt` has none, nor `C++`."""
_FACTOR = re.compile(r"(?P<weight>\d+(?:\.\d+)?|\.\d+)\s+\*\s+(?P<what>.*)", re.DOTALL)


def parse_compose(text: str, index: "Named | None" = None) -> list[Term]:
    """Terms added and subtracted: `+` and `-` with spaces around, weights as `0.5 * sunset` or `sunset:0.5`.

    Args:
        text: the whole. Operands are those of `parse_term`; one that holds ` + ` or ` - ` itself cannot be said so.
        index: for paths of its rows, see `parse_term`.

    Raises:
        InvalidInput: an operand is missing, or has two weights; the message shows where.
    """
    return [_term(text, sign, start, end, index) for sign, start, end in _operands(text)]


def _operands(text: str) -> Iterator[tuple[int, int, int]]:
    """The sign, the start and the end of each operand. A sign may stand before the first."""
    sign, start = 1, 0
    for operator in _OPERATOR.finditer(text):
        if text[: operator.start()].strip():
            yield sign, start, operator.start()
        sign, start = 1 if operator.group() == "+" else -1, operator.end()
    yield sign, start, len(text)


def _term(text: str, sign: int, start: int, end: int, index: "Named | None") -> Term:
    operand = text[start:end].strip()
    if not operand:
        raise InvalidInput(_at(text, start, "a text, a file or a row's id is missing"))
    match = _FACTOR.fullmatch(operand)
    term = parse_term(match["what"].strip() if match else operand, index)
    if not match:
        return replace(term, weight=sign * term.weight)
    if term.weight != 1 or _FACTOR.fullmatch(str(term.what)):
        raise InvalidInput(_at(text, start, f"two weights for one thing: {operand}; write one of them"))
    return replace(term, weight=sign * float(match["weight"]))


def _at(text: str, place: int, problem: str) -> str:
    """A problem and its place, in one line: `the composed query, character 8: …: beach +►- people`."""
    return f"the composed query, character {place + 1}: {problem}: {text[:place]}►{text[place:]}"
