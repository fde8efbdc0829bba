from pathlib import Path

import pytest

from tuwen.errors import InvalidInput
from tuwen.search.query import RowId, Term, parse_compose

ROW = "1b671a64-40d5-591e-99b0-da01ff1f3341"


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("beach", [Term("beach")]),
        ("beach + sunset - people", [Term("beach"), Term("sunset"), Term("people", -1.0)]),
        ("- rain + 0.5 * sun", [Term("rain", -1.0), Term("sun", 0.5)]),
        ("2 * sun - rain:0.5", [Term("sun", 2.0), Term("rain", -0.5)]),
        ("T-shirt + C++ + a+b", [Term("T-shirt"), Term("C++"), Term("a+b")]),
        ("a\n+ b\t-  c ", [Term("a"), Term("b"), Term("c", -1.0)]),
        (f"id:{ROW} - .25 * 人", [Term(RowId(ROW)), Term("人", -0.25)]),
        (f"id:{ROW}:0.5", [Term(RowId(ROW), 0.5)]),
        ("1 + 1 = 2", [Term("1"), Term("1 = 2")]),
    ],
)
def test_terms_are_added_and_subtracted(text: str, terms: list[Term]) -> None:
    assert parse_compose(text) == terms


def test_a_file_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cat.jpg").touch()
    assert parse_compose("night - 0.5 * cat.jpg") == [Term("night"), Term(Path("cat.jpg"), -0.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: a text, a file or a row's id is missing: ►"),
        ("a + ", "character 4: a text, a file or a row's id is missing: a +► "),
        ("a - - b", "character 4: a text, a file or a row's id is missing: a -► - b"),
        ("a + + b - c", "character 4: a text, a file or a row's id is missing: a +► + b - c"),
        ("b + 0.5 * a:0.7", "character 4: two weights for one operand: 0.5 * a:0.7; write one of them: b +► 0.5"),
        ("2 * 3 * a", "character 1: two weights"),
        ("a + id:", "id: must be followed by a row's id"),
    ],
)
def test_an_error_points_at_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_compose(text)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
