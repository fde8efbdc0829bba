"""Search as a whole, on pictures of plain colours; each step has its own tests."""

from pathlib import Path

import numpy as np
import pytest

from tuwen.errors import InvalidInput
from tuwen.search.search import RowId, Term, Wanted, search


def keys(hits) -> list[str]:
    return [str(hit.payload["path"]) for hit in hits]


def colours_of(hits) -> list[str]:
    return [str(hit.payload["folder"]) for hit in hits]


def rows_of(index, folder: str) -> list[str]:
    return [row.id for row in index.list(where=f'folder == "{folder}"')]


@pytest.mark.parametrize("strategy", ["average", "best"])
def test_rows_that_are_examples_are_no_hits(filled, strategy: str) -> None:
    liked = rows_of(filled, "red")[:2]
    terms = [Term(RowId(row)) for row in liked]
    hits = search(terms, None, filled, Wanted(k=4, strategy=strategy))
    assert len(hits) == 4
    assert colours_of(hits)[0] == "red"
    assert not {hit.id for hit in hits} & set(liked)
    everything = search(terms, None, filled, Wanted(k=99, strategy=strategy))
    assert len(everything) == filled.info().rows - 2


def test_best_finds_what_is_like_any_and_average_what_is_like_all(filled, encoder) -> None:
    terms = [Term("red"), Term("blue")]
    best = search(terms, encoder, filled, Wanted(k=6, strategy="best"))
    assert sorted(colours_of(best)) == ["blue"] * 3 + ["red"] * 3
    cosines = [max(encoder.encode_texts(["red", "blue"]) @ filled.vectors([hit.id])[hit.id]) for hit in best]
    assert [hit.score for hit in best] == pytest.approx(cosines, abs=1e-5)


def test_what_is_nearer_to_something_unwanted_sinks_below_zero(filled, encoder) -> None:
    terms = [Term("red"), Term("yellow", -1.0)]
    hits = search(terms, encoder, filled, Wanted(k=99, strategy="best"))
    scores = {key: hit.score for key, hit in zip(colours_of(hits), hits, strict=True)}
    assert scores["yellow"] < 0 < scores["red"]
    above = search(terms, encoder, filled, Wanted(k=99, strategy="best", min_score=0.0))
    assert keys(above) == [key for key, hit in zip(keys(hits), hits, strict=True) if hit.score >= 0]


def test_best_wants_something_that_is_liked(filled, encoder) -> None:
    with pytest.raises(InvalidInput) as raised:
        search([Term("red", -1.0)], encoder, filled, Wanted(strategy="best"))
    assert raised.value.where == "strategy"


def test_near_duplicates_are_folded_and_their_places_filled(filled, encoder) -> None:
    plain = search([Term("red")], encoder, filled, Wanted(k=99))
    hits = search([Term("red")], encoder, filled, Wanted(k=4, unique=0.9))
    assert len(hits) == 4
    assert hits[0].id == plain[0].id
    vectors = [filled.vectors([hit.id])[hit.id] for hit in hits]
    assert np.triu(np.stack(vectors) @ np.stack(vectors).T, 1).max() < 0.9
    members = [row for hit in hits for row in hit.similar]
    assert members
    assert len(set(members) | {hit.id for hit in hits}) == len(members) + 4
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    everything = search([Term("red")], encoder, filled, Wanted(k=99, unique=0.9))
    assert sum(1 + len(hit.similar) for hit in everything) == filled.info().rows


def test_diversity_spreads_and_the_order_stays_when_k_grows(filled, encoder) -> None:
    plain = search([Term("red")], encoder, filled, Wanted(k=5))
    hits = search([Term("red")], encoder, filled, Wanted(k=5, diversity=0.6))
    assert hits[0].id == plain[0].id
    assert len(set(colours_of(hits))) > len(set(colours_of(plain)))
    more = search([Term("red")], encoder, filled, Wanted(k=9, diversity=0.6))
    assert keys(more)[:5] == keys(hits)


def test_both_together_and_narrowed_down(filled, encoder) -> None:
    wanted = Wanted(k=3, diversity=0.3, unique=0.95, where='folder in ["red", "blue"]', min_score=-0.5, exact=True)
    hits = search([Term("red")], encoder, filled, wanted)
    assert set(colours_of(hits)) <= {"red", "blue"}
    assert colours_of(hits)[0] == "red"


def test_a_picture_that_is_a_file_finds_itself(filled, encoder, photos: Path) -> None:
    (hit,) = search([Term(photos / "green" / "green-1.jpg")], encoder, filled, Wanted(k=1))
    assert hit.payload["path"] == "green/green-1.jpg"
    assert hit.similar == ()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("k", 0),
        ("min_score", float("nan")),
        ("strategy", "worst"),
        ("diversity", 1.5),
        ("diversity", float("nan")),
        ("unique", 0.0),
        ("unique", 97.0),
    ],
)
def test_an_option_out_of_range_is_named(filled, encoder, option: str, value: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        search([Term("red")], encoder, filled, Wanted(**{option: value}))
    assert (raised.value.where, raised.value.value) == (option, value)


def test_an_empty_index_has_no_hits(tmp_path: Path, encoder) -> None:
    from tuwen.index.index import VectorIndex

    with VectorIndex.create(tmp_path / "empty.tuwen", encoder=encoder) as index:
        for wanted in (Wanted(), Wanted(strategy="best"), Wanted(diversity=0.5), Wanted(unique=0.9)):
            assert search([Term("red")], encoder, index, wanted) == []
