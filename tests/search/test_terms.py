from pathlib import Path

import pytest

from tuwen.errors import InvalidInput
from tuwen.search.query import RowId, Term, describe, doubts, parse_term, path_kind

ROW = "1b671a64-40d5-591e-99b0-da01ff1f3341"


@pytest.mark.parametrize(
    ("operand", "term"),
    [
        ("at night", Term("at night")),
        ("at night:0.5", Term("at night", 0.5)),
        ("at night:2.0", Term("at night", 2.0)),
        ("at night:.25", Term("at night", 0.25)),
        ("ratio 16:9", Term("ratio 16:9")),
        ("ratio 16:9:0.5", Term("ratio 16:9", 0.5)),
        ("10:30", Term("10:30")),
        ("a: b", Term("a: b")),
        ("版本：0.5", Term("版本：0.5")),
        ("at night:-0.5", Term("at night:-0.5")),
        ("at night:1.", Term("at night:1.")),
        ("gone.jpg", Term("gone.jpg")),
        ("狗" * 100, Term("狗" * 100)),
        (f"{'狗' * 100}:0.5", Term("狗" * 100, 0.5)),
        (f"id:{ROW}", Term(RowId(ROW))),
        (f"id:{ROW}:0.5", Term(RowId(ROW), 0.5)),
    ],
)
def test_a_weight_is_a_last_colon_and_a_number_with_a_point(operand: str, term: Term) -> None:
    assert parse_term(operand) == term


def test_an_operand_that_is_a_file_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("猫.jpg").touch()
    Path("odd:0.5").touch()
    Path("folder").mkdir()
    assert parse_term("猫.jpg") == Term(Path("猫.jpg"))
    assert parse_term("猫.jpg:0.5") == Term(Path("猫.jpg"), 0.5)
    assert parse_term("odd:0.5") == Term(Path("odd:0.5"))
    assert parse_term("odd:0.5:0.7") == Term(Path("odd:0.5"), 0.7)
    assert parse_term("folder") == Term("folder")


def test_a_text_can_be_the_path_of_something_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats").mkdir()
    for name in ("cats/tabby", "猫.jpg", "notes"):
        (tmp_path / name).touch()
    assert [path_kind(text) for text in ("猫.jpg", "cats/tabby", "cats", "./cats", str(tmp_path / "cats"))] == [
        *("file", "file", "folder", "folder", "folder"),
    ]
    assert [path_kind(text) for text in ("", "notes", "gone.jpg", "a dog", "狗" * 1000)] == [None] * 5


def test_a_text_that_reads_like_a_file_is_told() -> None:
    named = ["gone.jpg", "cat.PNG:-0.5", "cat.jpg:2", "2023/a cat.heic"]
    lines = doubts(["at night", *named, "ratio 16:9", "vitamin B.12", "jpg"])
    assert [line.partition(" is neither")[0] for line in lines] == named


def test_terms_are_described_in_one_line() -> None:
    terms = [Term("at night"), Term(Path("cat.jpg"), 0.5), Term("people", -1.0), Term("rain", -0.25)]
    assert describe(terms) == "at night + 0.5 * cat.jpg - people - 0.25 * rain"
    assert describe([Term(b"\x89PNG"), Term(RowId(ROW), -0.5)]) == f"an image - 0.5 * id:{ROW}"
    assert describe([Term("a dog: 1 + 1 = 2")]) == "a dog: 1 + 1 = 2"


def test_an_id_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_term("id: ")
    assert caught.value.value == "id: "


def test_a_path_of_the_index_is_its_row(filled) -> None:
    key = "red/red-0.jpg"
    (row,) = [row.id for row in filled.list(where=f'path == "{key}"')]
    assert parse_term(key) == Term(key)
    assert parse_term(key, filled) == Term(RowId(row))
    assert parse_term(f"{key}:0.5", filled) == Term(RowId(row), 0.5)
    assert parse_term("red", filled) == Term("red")
