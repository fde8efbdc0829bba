from pathlib import Path

import numpy as np
import pytest

import colours
from tuwen.client.documents import query_document
from tuwen.errors import InvalidInput, RejectedImages
from tuwen.search.query import Query, RowId, Term, query_vector, term_vectors, terms_of


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


@pytest.mark.parametrize("terms", [[Term("red"), Term("red", -1.0)], [Term("red", 0.0)], [], [Term("red"), Term("  ")]])
def test_what_has_no_direction_is_an_error(encoder, terms: list[Term]) -> None:
    with pytest.raises(InvalidInput):
        query_vector(terms, encoder)


def test_a_picture_that_cannot_be_read_is_named(encoder, tmp_path: Path) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    with pytest.raises(RejectedImages) as raised:
        query_vector([Term("red"), Term(file)], encoder)
    assert [item.path for item in raised.value.rejected] == [str(file)]


def test_a_row_needs_no_encoder(filled, encoder) -> None:
    row = next(iter(filled.list()))
    stored = filled.vectors([row.id])[row.id]
    np.testing.assert_allclose(query_vector([Term(RowId(row.id))], None, filled), stored, atol=1e-6)
    both = term_vectors([Term("red"), Term(RowId(row.id), -2.0)], encoder, filled)
    np.testing.assert_allclose(both, [encoder.encode_texts(["red"])[0], stored], atol=1e-6)
    assert both.dtype == np.float32


def test_the_content_of_a_file_is_a_picture(encoder, photos: Path) -> None:
    file = photos / "red" / "red-0.jpg"
    vectors = term_vectors([Term(file), Term(file.read_bytes())], encoder)
    np.testing.assert_array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("row", ["1b671a64-40d5-591e-99b0-da01ff1f3341", "7", "no id"])
def test_a_row_that_is_not_there_is_named(filled, row: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        term_vectors([Term(RowId(row))], None, filled)
    assert caught.value.value == row


def test_what_is_no_row_wants_a_model(filled) -> None:
    with pytest.raises(InvalidInput) as caught:
        term_vectors([Term("red")], None, filled)
    assert caught.value.value == "red"
    with pytest.raises(InvalidInput) as caught:
        term_vectors([Term(RowId("7"))], None)
    assert caught.value.value == "7"


@pytest.mark.parametrize("ask", [terms_of, query_document])
@pytest.mark.parametrize("name", ["red/red-0.jpg", "red/"])
def test_a_path_is_never_silently_a_text(photos: Path, name: str, ask) -> None:
    path = f"{photos}/{name}"
    for query in (path, Query(like=["red", (path, 0.5)]), Query(like=["red"], unlike=[path])):
        with pytest.raises(InvalidInput) as caught:
            ask(query)
        assert caught.value.value == path
    for query in ("red", "red/red-1000.jpg", photos / "red" / "red-0.jpg"):
        ask(query)
