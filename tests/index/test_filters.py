"""The language of filters: what is understood, and one line on what is not."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuwen.errors import InvalidInput
from tuwen.index import filters
from tuwen.index.filters import And, Compare, Near, Not, OneOf, Or, parse


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


W3, H4, B5 = Compare("width", "==", 3), Compare("height", "==", 4), Compare("bytes", "==", 5)

UNDERSTOOD = [
    ("width == 3", W3),
    ("  width==3\n", W3),
    ("width != 3", Not(W3)),
    ("width >= 1024", Compare("width", ">=", 1024)),
    ("width < -1.5e3", Compare("width", "<", -1500.0)),
    ("bytes <= 123456789012345678", Compare("bytes", "<=", 123456789012345678)),
    ('name == "a"', Compare("name", "==", "a")),
    ("name == 'a\"b'", Compare("name", "==", 'a"b')),
    (r'name == "猫 \"\\\u00e9\n\t\'😀\ud83d\ude00"', Compare("name", "==", "猫 \"\\é\n\t'😀😀")),
    ('name == ""', Compare("name", "==", "")),
    ('folder startswith "2023/"', Compare("folder", "startswith", "2023/")),
    ('path CONTAINS "x"', Compare("path", "contains", "x")),
    ("width == 3 and height == 4", And((W3, H4))),
    ("width == 3 AND height == 4 and bytes == 5", And((W3, H4, B5))),
    ("width == 3 or height == 4 and bytes == 5", Or((W3, And((H4, B5))))),
    ("(width == 3 or height == 4) and bytes == 5", And((Or((W3, H4)), B5))),
    ("not width == 3 and height == 4", And((Not(W3), H4))),
    ("not (width == 3 and height == 4)", Not(And((W3, H4)))),
    ("not not width == 3", W3),
    ("not width != 3", W3),
    ("((((width == 3))))", W3),
    ('format in ["JPEG", "PNG"]', OneOf("format", ("JPEG", "PNG"))),
    ("width in [3,4.5]", OneOf("width", (3, 4.5))),
    ("width not in [3]", Not(OneOf("width", (3,)))),
    ("not width in [3]", Not(OneOf("width", (3,)))),
    ("name in []", OneOf("name", ())),
    ("modified > 1700000000.5", Compare("modified", ">", 1700000000.5)),
    ('text contains "dog"', Compare("text", "contains", "dog")),
    ('type == "text"', Compare("type", "==", "text")),
    ('type == "image"', Not(Compare("type", "==", "text"))),  # also rows that have no type
    ('type in ["text", "image"]', Or((Compare("type", "==", "text"), Not(Compare("type", "==", "text"))))),
    ('type contains "e"', Not(OneOf("type", ()))),
    ('type == "video"', OneOf("type", ())),
    ("near(52.52, 13.40, 10 km)", Near(52.52, 13.4, 10_000)),
    ("NEAR ( -33.9,+151,500m ) and width == 3", And((Near(-33.9, 151, 500), W3))),
]


@pytest.mark.parametrize(("where", "condition"), UNDERSTOOD, ids=[where for where, _ in UNDERSTOOD])
def test_what_is_understood(where: str, condition) -> None:
    assert parse(where) == condition


MAY_1, MAY_2, JUNE_1 = 1714514400.0, 1714600800.0, 1717192800.0  # midnight in Berlin, in 2024

DAY = And((Compare("modified", ">=", MAY_1), Compare("modified", "<", MAY_2)))
TIMES = [
    ('modified >= "2024-05-01"', Compare("modified", ">=", MAY_1)),
    ('modified < "2024-05-01"', Compare("modified", "<", MAY_1)),
    ('modified > "2024-05-01"', Compare("modified", ">=", MAY_2)),
    ('modified <= "2024-05-01"', Compare("modified", "<", MAY_2)),
    ('modified == "2024-05-01"', DAY),
    ('modified == "20240501"', DAY),
    ('modified == "2024-05"', And((Compare("modified", ">=", MAY_1), Compare("modified", "<", JUNE_1)))),
    ('modified > "2023"', Compare("modified", ">=", 1704063600.0)),
    ('modified <= "2023-12"', Compare("modified", "<", 1704063600.0)),
    ('modified > "2024-05-01T00:00"', Compare("modified", ">", MAY_1)),
    ('modified == "2024-04-30T22:00:00Z"', Compare("modified", "==", MAY_1)),
    ('modified in ["2024-04-30T22:00Z", 5]', OneOf("modified", (MAY_1, 5))),
    ("modified >= 2024-05-01", Compare("modified", ">=", MAY_1)),
    ("taken == 2024-05", And((Compare("taken", ">=", MAY_1), Compare("taken", "<", JUNE_1)))),
    ("taken < 2024", Compare("taken", "<", 1704063600.0)),
    ("taken >= 12345", Compare("taken", ">=", 12345)),
    ("taken > 2024-04-30T22:00:00Z", Compare("taken", ">", MAY_1)),
    (
        'modified not in ["2024-05-01", 5]',
        Not(Or((DAY, Compare("modified", "==", 5)))),
    ),
]


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("where", "condition"), TIMES, ids=[where for where, _ in TIMES])
def test_times_are_whole_days_months_and_years_on_this_clock(where: str, condition) -> None:
    assert parse(where) == condition


FIELDS = ", ".join(filters.FIELDS)

NOT_UNDERSTOOD = [
    ("", "is empty: expected a field, 'not' or '('"),
    (" \n", "is empty"),
    ("width > 3 and", "ends too soon, after 13 characters: expected a field, 'not' or '('"),
    ("(width == 3", "ends too soon, after 11 characters: expected ')'"),
    ("width == 3)", "character 11, ')': expected the end"),
    ("width == 3 height == 4", "character 12, 'height == 4': expected 'and', 'or' or the end"),
    ("width = 3", "character 7, '= 3': expected one of == != < <= > >= startswith contains, 'in' or 'not'"),
    ("width >> 3", "character 8, '> 3': expected a text in quotes or a number"),
    ("width in [1, ]", "character 14, ']': expected a text in quotes or a number"),
    ('name == "abc', "character 9"),
    ("widht > 3", f"character 1, 'widht > 3': there is no field widht; the fields are {FIELDS}"),
    ("width > 3 and widht", f"character 15, 'widht': there is no field widht; the fields are {FIELDS}"),
    ("猫 == 3", "there is no field 猫"),
    ('width == "3"', "character 10, '\"3\"': width is a number"),
    ("name == 3", "character 9, '3': name is a text: put 3 in quotes"),
    ('name < "a"', "character 6, '< \"a\"': name is a text: compare it with ==, !=, startswith"),
    ('width contains "3"', "width is a number: compare it with =="),
    ("width == 1e400", "too large"),
    (r'name == "\q"', "escape \\q is not known"),
    (r'name == "\ud83d"', "surrogate"),
    ('modified > "yesterday"', '"yesterday" is not a time: write "2024"'),
    ('modified > "2024-13"', "not a time"),
    ("taken > 2024-13", "not a time"),
    ("width > 2024-12", "is a date"),
    ("near(91, 0, 1 km)", "character 6, '91, 0, 1 km)': near takes a latitude up to 90"),
    ("near(52, 13, 0 km)", "a distance is above 0"),
    ("near(52, 13, 5)", "expected km or m"),
    ("(width == 3 and (height == 4 or " * 40 + "bytes == 5" + "))" * 40, "more than 50 levels deep"),
    ("(width == 3 and (height == 4 or " * 5_000 + "bytes == 5" + "))" * 5_000, "more than 50 levels deep"),
]


@pytest.mark.parametrize(("where", "why"), NOT_UNDERSTOOD, ids=[where[:30] for where, _ in NOT_UNDERSTOOD])
def test_what_is_not_understood_is_told_in_one_line(where: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(where)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the filter ")


@given(st.text() | st.text(alphabet="()[],<>=!\"'\\ \n0aeio nradtwh3."))
def test_no_text_ends_in_anything_else(where: str) -> None:
    with suppress(InvalidInput):
        parse(where)
