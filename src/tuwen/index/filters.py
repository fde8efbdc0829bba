r"""The filter language of `where`: parsing a text to a condition on the fields of a row.

    width >= 1024 and (folder == "2023" or folder startswith "2023/")
    format in ["JPEG", "HEIC"] and not name contains "copy"
    taken >= 2023-05 and camera contains "Canon" and near(52.52, 13.40, 10 km)

Fields: see `FIELDS`. Numbers are compared with `== != < <= > >=`, texts with `== != startswith contains`, both with
`in [..]` and `not in [..]`; `not`, `and`, `or` bind in that order. Texts are quoted by double or single quotes, with
the escapes `\\ \" \' \n \t \uXXXX`, and are case-sensitive. Times (see `TIMES`) are compared with a year, a month, a
day (from its first moment to its last) or a time, with or without quotes, or with seconds since 1970; a number of four
digits is a year. `near(latitude, longitude, distance)` keeps images taken within a distance, in km or m. Each store
compiles conditions to its own queries.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from math import asin, cos, radians, sin, sqrt
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from tuwen.errors import InvalidInput

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput

FIELDS: Mapping[str, type[str] | type[int] | type[float]] = {
    "path": str,
    "type": str,
    "folder": str,
    "name": str,
    "content": str,
    "width": int,
    "height": int,
    "format": str,
    "modified": float,
    "bytes": int,
    "text": str,
    "taken": float,
    "taken_zone": str,
    "taken_from": str,
    "camera": str,
    "lens": str,
    "focal_length": float,
    "iso": int,
    "orientation": int,
    "latitude": float,
    "longitude": float,
    "rating": float,
    "keywords": str,
    "title": str,
    "sidecar": str,
    "sidecar_modified": float,
}
"""what a row can be filtered by, and what it is"""
TYPES = ("image", "text")
"""what a row can be of; one that does not say is of a picture"""

SCANNED = (
    "taken_zone",
    "taken_from",
    "lens",
    "focal_length",
    "iso",
    "orientation",
    "latitude",
    "longitude",
    "title",
    "sidecar",
    "sidecar_modified",
)
"""fields that stores keep no index of: filters on them are rare, and each index makes writing slower"""
TIMES = ("taken", "modified", "sidecar_modified")
"""the fields that are times"""
EARTH_RADIUS = 6_371_008.8
"""metres, on average: distances are those on a sphere"""

Operator: TypeAlias = Literal["==", "<", "<=", ">", ">=", "startswith", "contains"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A field against a value: text for a field of texts, number for one of numbers. False where a row has none."""

    field: str
    operator: Operator
    value: str | int | float


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field that equals one of some values."""

    field: str
    values: tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True)
class Near:
    """Within `metres` of a place, in degrees. False where a row has no place."""

    latitude: float
    longitude: float
    metres: float


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them."""

    parts: "tuple[Condition, ...]"


Condition: TypeAlias = Compare | OneOf | Near | Not | And | Or


def checked_field(field: str, *kinds: type) -> str:
    """A field, if it is one of some kinds.

    Raises:
        InvalidInput: it is not.
    """
    if FIELDS.get(field) not in kinds:
        hint = f"choose one of {', '.join(name for name, kind in FIELDS.items() if kind in kinds)}"
        raise InvalidInput(f"{field!r} is not a field that can be used here; {hint}", value=field, hint=hint)
    return field


def in_order(keys: Sequence[str], values: Mapping[str, Any], sort: str) -> list[str]:
    """Keys by their values, with `-` at the beginning of `sort` in reverse; those without a value come last."""
    known = [key for key in keys if values[key] is not None]
    known.sort(key=lambda key: values[key], reverse=sort.startswith("-"))
    return known + [key for key in keys if values[key] is None]


def is_of(field: str, value: object) -> bool:
    """Whether a value can be stored in a field; in one that is not among `FIELDS`, any can."""
    kind = FIELDS.get(field)
    return kind is None or isinstance(value, (int, float) if kind is float else kind)


def is_place(latitude: float, longitude: float) -> bool:
    """Whether these are degrees."""
    return abs(latitude) <= 90 and abs(longitude) <= 180


def parts_of(condition: Condition) -> Iterator[Condition]:
    """The conditions that a condition is made of."""
    if isinstance(condition, Not):
        yield condition.part
    elif isinstance(condition, And | Or):
        yield from condition.parts


def distance(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Metres between two places in degrees, by the haversine formula."""
    first, second = radians(latitude), radians(other_latitude)
    half = (
        sin((second - first) / 2) ** 2 + cos(first) * cos(second) * sin(radians(other_longitude - longitude) / 2) ** 2
    )
    return 2 * EARTH_RADIUS * asin(min(1.0, sqrt(half)))


def negated(condition: Condition) -> Condition:
    """The opposite, without a second negation."""
    return condition.part if isinstance(condition, Not) else Not(condition)


def depth(condition: Condition) -> int:
    """How many conditions stand within one another."""
    return 1 + max((depth(part) for part in parts_of(condition)), default=0)


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


DEEPEST = 50
"""conditions within conditions; more would only be a machine's mistake"""

_GRAMMAR = r"""
    ?start: or
    ?or: and (_OR and)*
    ?and: not (_AND not)*
    ?not: _NOT not -> negation
        | "(" or ")"
        | _NEAR "(" NUMBER "," NUMBER "," NUMBER UNIT ")" -> near
        | NAME COMPARISON _value -> comparison
        | NAME _IN _values -> membership
        | NAME _NOT _IN _values -> exclusion
    _values: "[" [_value ("," _value)*] "]"
    _value: TEXT | DATE | NUMBER

    COMPARISON.2: "==" | "!=" | "<=" | ">=" | "<" | ">" | /startswith\b/i | /contains\b/i
    _IN.2: /in\b/i
    _AND.2: /and\b/i
    _OR.2: /or\b/i
    _NOT.2: /not\b/i
    _NEAR.2: /near(?=\s*\()/i
    UNIT.2: /k?m\b/i
    DATE.2: /\d{4}-\d\d(-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?(?![\w-])/
    NAME: /[^\W\d]\w*/
    TEXT: /"(\\.|[^"\\])*"/s | /'(\\.|[^'\\])*'/s
    NUMBER: /[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?/
    %ignore /\s+/
"""
_WORDS = {
    "NAME": "a field",
    "COMPARISON": "one of == != < <= > >= startswith contains",
    "_IN": "'in'",
    "_AND": "'and'",
    "_OR": "'or'",
    "_NOT": "'not'",
    "TEXT": "a text in quotes",
    "NUMBER": "a number",
    "UNIT": "km or m",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "COMMA": "','",
    "$END": "the end",
}
_YEAR = re.compile(r"\d{4}")
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t"}


def parse(where: str) -> Condition:
    """Read a filter.

    Raises:
        InvalidInput: it cannot be understood; the message has the place, what stands there and what was expected.
    """
    from lark.exceptions import UnexpectedInput

    try:
        condition = _Reader(where).condition(_parser().parse(where))
        if depth(condition) > DEEPEST:
            raise RecursionError
    except UnexpectedInput as error:
        _refuse_names(where)
        _refuse_syntax(where, error)
    except RecursionError:
        raise InvalidInput(f"the filter is nested more than {DEEPEST} levels deep", value=where) from None
    return condition


def quoted(text: str) -> str:
    """A text as a filter has it."""
    return '"' + re.sub(r'[\x00-\x1f"\\]', lambda match: f"\\u{ord(match[0]):04x}", text) + '"'


@cache
def _parser() -> "Lark":
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


class _Reader:
    """A parsed filter to a condition: fields that exist, values that fit them."""

    def __init__(self, where: str) -> None:
        self._where = where

    def condition(self, tree: "Tree[Token]") -> Condition:  # noqa: PLR0911  (one for each kind)
        """One node of what lark has parsed, and all below it."""
        children: list[Any] = tree.children
        match tree.data:
            case "comparison":
                return self._comparison(*children)
            case "membership":
                return self._membership(*children)
            case "exclusion":
                return negated(self._membership(*children))
            case "negation":
                return negated(self.condition(children[0]))
            case "near":
                return self._near(*children)
            case "and":
                return And(tuple(self.condition(child) for child in children))
            case _:
                return Or(tuple(self.condition(child) for child in children))

    def kind(self, name: "Token") -> type:
        """What a field holds."""
        if str(name) not in FIELDS:
            self._refuse(name, f"there is no field {name}; the fields are {', '.join(FIELDS)}")
        return FIELDS[str(name)]

    def _comparison(self, name: "Token", operator: "Token", value: "Token") -> Condition:
        kind = self.kind(name)
        sign: Any = operator.lower()
        if sign in ("startswith", "contains") and kind is not str:
            self._refuse(operator, f"{name} is a number: compare it with ==, !=, <, <=, >, >= or in")
        if sign in ("<", "<=", ">", ">=") and kind is str:
            self._refuse(operator, f"{name} is a text: compare it with ==, !=, startswith, contains or in")
        if sign == "!=":
            return negated(self._compared(name, "==", value))
        return self._compared(name, sign, value)

    def _near(self, latitude: "Token", longitude: "Token", metres: "Token", unit: "Token") -> Condition:
        place = self._number(latitude), self._number(longitude)
        for token, value, most in zip((latitude, longitude), place, (90, 180), strict=True):
            if abs(value) > most:
                self._refuse(token, f"near takes a latitude up to 90 and a longitude up to 180, not {token}")
        far = self._number(metres)
        if far <= 0:
            self._refuse(metres, f"a distance is above 0, not {metres}")
        return Near(float(place[0]), float(place[1]), far * (1000.0 if unit.lower() == "km" else 1.0))

    def _membership(self, name: "Token", *values: "Token") -> Condition:
        self.kind(name)
        parts = [self._compared(name, "==", value) for value in values]
        equal = tuple(part.value for part in parts if isinstance(part, Compare))
        return OneOf(str(name), equal) if len(equal) == len(parts) else Or(tuple(parts))

    def _compared(self, name: "Token", operator: Operator, value: "Token") -> Condition:
        field = str(name)
        if FIELDS[field] is str:
            if value.type != "TEXT":
                self._refuse(value, f"{name} is a text: put {value} in quotes")
            text = self._text(value)
            return _of_type(operator, text) if field == "type" else Compare(field, operator, text)
        if value.type == "NUMBER" and not (field in TIMES and _YEAR.fullmatch(value)):
            return Compare(field, operator, self._number(value))
        if field not in TIMES:
            self._refuse(value, f"{name} is a number: {value} is a {'date' if value.type == 'DATE' else 'text'}")
        return within(field, operator, self._period(value))

    def _text(self, value: "Token") -> str:
        def unescaped(match: re.Match[str]) -> str:
            if match[1]:
                return chr(int(match[1], 16))
            if match[0][1:] not in _ESCAPES:
                self._refuse(value, rf"the escape {match[0]} is not known: use \\ \" \' \n \t or \uXXXX")
            return _ESCAPES[match[0][1:]]

        text = re.sub(r"\\(?:u([0-9a-fA-F]{4})|.)", unescaped, value[1:-1], flags=re.DOTALL)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")  # two escapes may be one character
        except UnicodeDecodeError:
            self._refuse(value, "half of a surrogate pair is not a character")

    def _number(self, value: "Token") -> int | float:
        number = int(value) if re.fullmatch(r"[+-]?\d{1,18}", value) else float(value)
        if abs(number) == float("inf"):
            self._refuse(value, "the number is too large")
        return number

    def _period(self, value: "Token") -> Period:
        try:
            return read_period(self._text(value) if value.type == "TEXT" else str(value))
        except (ValueError, OverflowError):
            self._refuse(value, f'{value} is not a time: write "2024", "2024-05", "2024-05-01" or "2024-05-01T12:00"')

    def _refuse(self, token: "Token", reason: str) -> NoReturn:
        raise InvalidInput(
            f"the filter {_place(self._where, token.start_pos or 0)}: {reason}", value=str(token), where=self._where
        )


def _of_type(operator: Operator, value: str) -> Condition:
    """A comparison of `type`, such that rows that have none count as pictures."""
    fits: Mapping[Operator, Callable[[str, str], bool]] = {
        "==": str.__eq__,
        "startswith": str.startswith,
        "contains": str.__contains__,
    }
    image, text = (fits[operator](kind, value) for kind in TYPES)
    if image == text:
        return Not(OneOf("type", ())) if text else OneOf("type", ())
    return Compare("type", "==", "text") if text else Not(Compare("type", "==", "text"))


def _refuse_names(where: str) -> None:
    """A name that is not known says more than that something does not fit."""
    from lark.exceptions import UnexpectedInput

    with suppress(UnexpectedInput):
        for token in _parser().lex(where):
            if token.type == "NAME":
                _Reader(where).kind(token)


def _refuse_syntax(where: str, error: "UnexpectedInput") -> NoReturn:
    found: Any = error  # its two kinds have the words that would fit under different names
    token, fitting = (
        getattr(found, "token", None),
        getattr(found, "accepts", None) or getattr(found, "allowed", None),
    )
    position = len(where) if token is not None and token.type == "$END" else found.pos_in_stream
    *words, last = [word for name, word in _WORDS.items() if name in (fitting or found.expected)]
    wanted = f"{', '.join(words)} or {last}" if words else last
    message = f"the filter {_place(where, position)}: expected {wanted}"
    raise InvalidInput(message, value=where[position:], where=where) from None


def _place(where: str, position: int) -> str:
    """Where in the filter, in words: which character, and what stands there."""
    rest = " ".join(where[position:].split())
    if not rest:
        return f"ends too soon, after {len(where.rstrip())} characters" if where.strip() else "is empty"
    shown = rest if len(rest) <= 20 else f"{rest[:19]}…"
    return f"cannot be read at character {position + 1}, {shown!r}"
