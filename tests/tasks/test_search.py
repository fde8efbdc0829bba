from pathlib import Path

import numpy as np
import pytest

import colours
from tuwen.errors import InvalidInput, RejectedImages
from tuwen.tasks.search import Term, describe, parse_term, query_vector


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


def test_terms_are_described_in_one_line() -> None:
    terms = [Term("at night"), Term(Path("cat.jpg"), 0.5), Term("people", -1.0), Term("rain", -0.25)]
    assert describe(terms) == "at night + 0.5 * cat.jpg - people - 0.25 * rain"
    assert describe([Term("a dog: 1 + 1 = 2")]) == "a dog: 1 + 1 = 2"


def test_the_vector_is_the_weighted_sum_brought_to_length_1(encoder, tmp_path: Path) -> None:
    file = tmp_path / "blue.png"
    colours.picture("blue").save(file)
    terms = [Term("red"), Term(file, 0.5), Term("green", -0.25)]
    texts = encoder.encode_texts(["red", "green"])
    expected = texts[0] + 0.5 * encoder.encode_images([file])[0] - 0.25 * texts[1]
    vector = query_vector(terms, encoder)
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_a_single_text_is_its_own_vector(encoder) -> None:
    np.testing.assert_allclose(query_vector([Term("红")], encoder), encoder.encode_texts(["红"])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([Term("red"), Term("red", -1.0)], r"cancel each other out \(red - red\)"),
        ([Term("red", 0.0)], "cancel each other out"),
        ([], "nothing to look for"),
        ([Term("red"), Term("  ")], "empty text"),
    ],
)
def test_what_has_no_direction_is_an_error(encoder, terms: list[Term], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        query_vector(terms, encoder)


def test_a_picture_that_cannot_be_read_is_named(encoder, tmp_path: Path) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    with pytest.raises(RejectedImages, match=r"broken\.jpg"):
        query_vector([Term("red"), Term(file)], encoder)
