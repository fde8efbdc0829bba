"""What callers of an index rely on, with the real store."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest
from making import DIM, FakeModel, paths, payload, row, rows, unit, vectors

from tuwen.errors import InvalidInput, InvalidVectors
from tuwen.index.index import VectorIndex
from tuwen.types import Row


def exact(made: np.ndarray, query: np.ndarray) -> np.ndarray:
    return made.astype(np.float64) @ query.astype(np.float64)


def test_scores_are_the_exact_cosines_best_first(index: VectorIndex) -> None:
    made = rows(300)
    index.upsert(made)
    query = vectors(1, seed=9)[0]
    cosines = exact(np.stack([it.vector for it in made]), query)
    hits = index.search(query, k=300)
    assert paths(hits) == [made[i].key for i in np.argsort(-cosines)]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines)[::-1], atol=1e-6)


def test_a_hit_has_the_row_s_id_and_its_whole_payload(index: VectorIndex) -> None:
    index.upsert([row("2023/猫.jpg", bytes=7)])
    (hit,) = index.search(vectors(1, seed=3)[0])
    assert hit.payload == payload("2023/猫.jpg", bytes=7)
    assert hit.id == str(uuid5(NAMESPACE_URL, "2023/猫.jpg")) == "495f5a39-a355-581c-a73d-04ff027a32c1"


def test_a_vector_finds_itself_with_a_score_of_1(index: VectorIndex) -> None:
    made = rows(50)
    index.upsert(made)
    for it in made[::7]:
        hit = index.search(it.vector, k=1)[0]
        assert hit.payload["path"] == it.key
        assert 1 - 1e-6 <= hit.score <= 1


def test_equal_scores_stand_by_key(index: VectorIndex) -> None:
    same = vectors(1)[0]
    keys = ["b", "a", "ä", "0", "c/1", "Z"]
    index.upsert([row(key, same) for key in keys])
    hits = index.search(same, k=10)
    assert paths(hits) == sorted(keys)
    assert len({hit.score for hit in hits}) == 1


def test_a_vector_of_almost_length_1_scores_as_of_length_1(index: VectorIndex) -> None:
    made = vectors(2)
    index.upsert([row("a", (made[0] * 1.0009).astype(np.float32))])
    (hit,) = index.search((made[1] * 0.9991).astype(np.float32))
    assert hit.score == pytest.approx(float(exact(made[:1], made[1])[0]), abs=1e-6)


def test_k_and_min_score(index: VectorIndex) -> None:
    made = rows(20)
    index.upsert(made)
    query = made[0].vector
    everything = index.search(query, k=1000)
    assert len(everything) == 20
    assert index.search(query, k=3) == everything[:3]
    assert index.search(query, k=20, min_score=everything[4].score) == everything[:5]
    assert index.search(query, min_score=1.5) == []
    assert len(index.search(query, k=20, min_score=-1.0)) == 20


def test_an_empty_index_finds_nothing(index: VectorIndex) -> None:
    assert index.search(vectors(1)[0], k=5) == []
    assert index.search(vectors(1)[0], k=5, where="width > 3", exact=True) == []
    assert list(index.list()) == []
    assert index.info().rows == 0
    index.optimize()


@pytest.mark.parametrize(("option", "value"), [("k", 0), ("k", -3), ("min_score", float("nan"))])
def test_an_invalid_limit_is_refused(index: VectorIndex, option: str, value: float) -> None:
    with pytest.raises(InvalidInput) as raised:
        index.search(vectors(1)[0], **{option: value})
    assert (raised.value.where, raised.value.value) == (option, value)


def test_a_filter_by_an_unknown_field_is_refused(index: VectorIndex) -> None:
    with pytest.raises(InvalidInput, match="widht"):
        index.search(vectors(1)[0], where="widht > 3")


def test_a_filter_keeps_to_its_rows(index: VectorIndex) -> None:
    made = rows(200)
    index.upsert(made)
    hits = index.search(made[0].vector, k=500, where='folder == "3" and width >= 200')
    wanted = {it.key for it in made if it.payload["folder"] == "3" and it.payload["width"] >= 200}
    assert set(paths(hits)) == wanted
    assert index.search(made[0].vector, where='folder == "nowhere"') == []


BAD_VECTORS = [
    (np.ones(DIM, np.float64) / np.sqrt(DIM), "float64"),
    (np.ones(DIM + 1, np.float32), (DIM + 1,)),
    (np.ones((1, DIM), np.float32), (1, DIM)),
    (np.full(DIM, np.nan, np.float32), pytest.approx(np.nan, nan_ok=True)),
    (np.array([np.inf] + [0.0] * (DIM - 1), np.float32), np.inf),
    (np.full(DIM, 3e38, np.float32), pytest.approx(3e38 * DIM**0.5)),
    (np.zeros(DIM, np.float32), 0),
    ((unit(np.ones(DIM)) * 1.002).astype(np.float32), pytest.approx(1.002)),
    ([1.0] + [0.0] * (DIM - 1), "list"),
]


@pytest.mark.parametrize(("vector", "value"), BAD_VECTORS, ids=[str(value) for _, value in BAD_VECTORS])
def test_a_bad_vector_is_refused_and_its_row_named(index: VectorIndex, vector, value: object) -> None:
    with pytest.raises(InvalidVectors) as query:
        index.search(vector)
    with pytest.raises(InvalidVectors) as added:
        index.upsert([row("good.jpg"), Row("bad.jpg", vector, payload("bad.jpg"))])
    assert (query.value.where, query.value.value) == ("query", value)
    assert (added.value.where, added.value.value) == ("bad.jpg", value)
    assert index.info().rows == 0, "nothing of the batch is written"


BAD_PAYLOADS = [
    ("width", "640"),
    ("width", 1.5),
    ("width", True),
    ("name", 3),
    ("modified", float("nan")),
    ("bytes", 2**63),
    ("name", "\udcff"),
    ("note", None),
    ("note", ["a"]),
    ("_exact", 1),
    ("path", "other"),
    ("type", "sound"),
    ("type", "text"),
]


@pytest.mark.parametrize(("field", "value"), BAD_PAYLOADS, ids=map(str, BAD_PAYLOADS))
def test_a_bad_payload_is_refused_and_its_row_named(index: VectorIndex, field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=field) as raised:
        index.upsert([Row("a.jpg", vectors(1)[0], {**payload("a.jpg"), field: value})])
    assert (raised.value.where, raised.value.value) == ("a.jpg", pytest.approx(value, nan_ok=True))
    assert index.info().rows == 0


@pytest.mark.parametrize("key", ["", "\udcff.jpg"])
def test_a_key_must_be_a_text(index: VectorIndex, key: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        index.upsert([Row(key, vectors(1)[0], {})])
    assert raised.value.value == key


KEYS = [
    *("a.jpg", "2023/夏/猫 & 犬.jpg", "😀.png", "caf%E9.jpg", "100%.jpg", "/abs/olute.jpg"),
    *("x" * 4_000, "q\"u'o\\te\n\t.jpg", "e\u0301", "é", " "),
]


def test_keys_of_every_kind_come_back(folder: Path, model: FakeModel) -> None:
    made = vectors(len(KEYS))
    with VectorIndex.open(folder, encoder=model) as index:
        index.upsert([row(key, vector) for key, vector in zip(KEYS, made, strict=True)])
        index.optimize()
    with VectorIndex.open(folder, encoder=model) as index:
        assert index.payloads(KEYS) == {key: payload(key) for key in KEYS}
        assert [it.payload["path"] for it in index.list()] == sorted(KEYS)
        for key, vector in zip(KEYS, made, strict=True):
            assert paths(index.search(vector, k=1)) == [key]
        assert index.remove(KEYS) == len(KEYS)


def test_a_key_that_is_there_is_replaced_as_a_whole(index: VectorIndex) -> None:
    old, new = vectors(2)
    index.upsert([Row("a", old, payload("a", note="old", width=1))])
    index.upsert([Row("a", new, payload("a", width=2))])
    assert index.info().rows == 1
    assert index.payloads(["a"]) == {"a": payload("a", width=2)}
    assert index.search(new)[0].score == pytest.approx(1, abs=1e-6)


def test_of_one_key_twice_in_a_batch_the_last_wins(index: VectorIndex) -> None:
    index.upsert([row("a", width=1), row("b"), row("a", width=2)])
    assert index.info().rows == 2
    assert index.payloads(["a"])["a"]["width"] == 2


def test_remove_counts_what_there_was(index: VectorIndex) -> None:
    index.upsert(rows(30))
    assert index.remove(["0/0.jpg", "0/0.jpg", "gone.jpg", "1/1.jpg"]) == 2
    assert index.remove(["0/0.jpg"]) == 0
    assert index.remove([]) == 0
    assert index.info().rows == 28
    assert "0/0.jpg" not in {it.payload["path"] for it in index.list()}


def test_payloads_leave_out_what_is_not_there(index: VectorIndex) -> None:
    index.upsert(rows(5))
    assert index.payloads(["gone", "1/1.jpg"]) == {"1/1.jpg": rows(5)[1].payload}
    assert index.payloads([]) == {}


def test_another_payload_leaves_the_vector(index: VectorIndex) -> None:
    index.upsert([row("a", note="x"), row("b")])
    index.update_payloads({"a": payload("a", modified=5.5)})
    assert index.payloads(["a"]) == {"a": payload("a", modified=5.5)}
    index.update_payloads({key: payload(key, width=9) for key in ("a", "b")})
    assert [it.payload["width"] for it in index.list()] == [9, 9]
    assert index.search(row("a").vector)[0].score == pytest.approx(1, abs=1e-6)
    assert len(list(index.list("width == 9"))) == 2, "the filters know of it"
    with pytest.raises(InvalidInput, match="'gone'"):
        index.update_payloads({"a": payload("a", width=1), "gone": payload("gone")})
    assert index.payloads(["a"])["a"]["width"] == 9


def test_payloads_that_lack_fields_or_have_more(index: VectorIndex) -> None:
    index.upsert([Row("a", vectors(1)[0], {"note": "mine", "rating": 4.5}), row("b")])
    assert index.payloads(["a"]) == {"a": {"path": "a", "type": "image", "note": "mine", "rating": 4.5}}
    assert [it.payload["path"] for it in index.list("width > 0")] == ["b"]
    assert [it.payload["path"] for it in index.list("width != 640")] == ["a"]


def test_rows_by_id(index: VectorIndex) -> None:
    made = rows(40)
    index.upsert(made)
    ids = [str(uuid5(NAMESPACE_URL, it.key)) for it in made[:3]]
    absent = [str(uuid5(NAMESPACE_URL, "gone")), "no id", "", ids[0].upper()]
    found = index.get([*ids, *absent, *ids])
    assert {it: row.payload for it, row in found.items()} == {
        it: row.payload for it, row in zip(ids, made, strict=False)
    }
    assert [row.id for row in found.values()] == list(found)
    kept = index.vectors([*ids, *absent])
    assert set(kept) == set(ids)
    for it, row_ in zip(ids, made, strict=False):
        assert kept[it].dtype == np.float32
        np.testing.assert_allclose(kept[it], row_.vector, atol=1e-6)
    assert index.get([]) == index.vectors(absent) == {}


def test_texts_are_rows_too(index: VectorIndex) -> None:
    dog, cat = vectors(2)
    index.upsert([row("dog.jpg", dog), Row("1", cat, {"type": "text", "text": "一只猫", "name": "1"})])
    assert paths(index.search(cat, where='type == "image"')) == ["dog.jpg"]
    assert paths(index.search(dog, where='type == "text" and text contains "猫"')) == ["1"]
    assert index.payloads(["1"])["1"]["type"] == "text"


def test_rows_of_before_there_were_types_are_pictures(index: VectorIndex) -> None:
    old = {name: value for name, value in payload("old").items() if name != "type"}
    index._store.upsert([Row("old", vectors(1)[0], old)])  # past the door that gives every row a type
    index.upsert([row("new"), Row("text", vectors(1)[0], {"type": "text", "text": ""})])
    assert [it.payload["path"] for it in index.list('type == "image"')] == ["new", "old"]
    assert [it.payload["path"] for it in index.list('type != "image"')] == ["text"]
    assert index.payloads(["old"])["old"]["type"] == "image"


def test_floats_come_back_to_the_last_bit(folder: Path, model: FakeModel) -> None:
    times = [float(it) for it in np.random.default_rng(1).uniform(0, 2e9, size=1_000)]
    times += [0.0, -0.0, 1e-300, 5e-324, 1.7976931348623157e308, 0.1, 1e15 + 0.3, -1.5, 1_700_000_000.0]
    made = vectors(len(times))
    with VectorIndex.open(folder, encoder=model) as index:
        index.upsert([row(f"{i}", made[i], modified=time) for i, time in enumerate(times)])
    with VectorIndex.open(folder, encoder=model) as index:
        index.optimize()
        stored = index.payloads([f"{i}" for i in range(len(times))])
        assert [stored[f"{i}"]["modified"] for i in range(len(times))] == times
        for i in range(0, 1_000, 100):
            assert f"{i}" in [it.payload["path"] for it in index.list(f"modified == {times[i]!r}")]


def test_one_vector_for_each_content(index: VectorIndex) -> None:
    made = vectors(60)
    index.upsert([row(f"{i}", made[i], content=f"content {i // 20}") for i in range(60)])
    found = index.vectors_of(["content 2", "content 0", "none", "content 0"])
    assert sorted(found) == ["content 0", "content 2"]
    for content, vector in found.items():
        assert vector.dtype == np.float32
        assert any((vector == made[int(content[-1]) * 20 + i]).all() for i in range(20))
    known = index.known("content 1")
    assert known is not None
    assert known.payload["content"] == "content 1"
    assert index.known("none") is None


def test_many_rows_of_one_content_hide_no_other(index: VectorIndex) -> None:
    made = vectors(500)
    index.upsert([row(f"{i}", made[i], content="white" if i > 3 else f"{i}") for i in range(500)])
    assert sorted(index.vectors_of(["white", "0", "1", "2", "3"])) == ["0", "1", "2", "3", "white"]


def test_list_is_by_key_whatever_the_order_of_writing(index: VectorIndex) -> None:
    made = rows(2_500)
    index.upsert(made[::-1])
    listed = list(index.list())
    assert [it.payload for it in listed] == [it.payload for it in sorted(made, key=lambda it: it.key)]
    assert len({it.id for it in listed}) == 2_500
    assert [it.payload["path"] for it in index.list("width == 107")] == ["7/1007.jpg", "7/2007.jpg", "7/7.jpg"]


def test_rows_by_period_are_those_of_the_filter_and_wrong_dates_cost_little(index: VectorIndex, monkeypatch) -> None:
    days = [(1904, 1, 1), (1999, 12, 31), (2000, 1, 1), (2023, 5, 31), (2023, 5, 1), (2023, 6, 1), (2106, 2, 7)]
    index.upsert([row(f"{i}", taken=datetime(*day, 23, 59, 59).timestamp()) for i, day in enumerate(days)])
    asked, count = list[str | None](), index.count
    monkeypatch.setattr(index, "count", lambda where: asked.append(where) or count(where))
    months = index.periods("month")
    assert len(asked) < 150  # of 2,424 months
    assert months == Counter(f"{year}-{month:02}" for year, month, _ in days)
    assert list(months) == sorted(months)
    assert months == {name: count(f'taken == "{name}"') for name in months}
    assert index.periods("year") == Counter(f"{year}" for year, *_ in days)
    assert index.periods("year", where="taken < 2000") == {"1904": 1, "1999": 1}
    assert index.periods("year", "modified") == index.periods("year", "modified", "taken >= 1900")
    for by, field in (("day", "taken"), ("year", "width")):
        with pytest.raises(InvalidInput):
            index.periods(by, field)


def test_an_index_without_rows_has_no_periods(index: VectorIndex) -> None:
    assert index.periods("month") == {}


def test_space_is_checked_for_the_bytes_that_a_payload_is_written_in(
    index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for its characters, of which a Chinese one takes three bytes; the same when it is replaced."""
    sizes = list[int]()
    monkeypatch.setattr("tuwen.index.storage.check_space", lambda _, size, **__: sizes.append(size))
    index.upsert([row("a.jpg"), row("b.jpg")])
    index.upsert([row("a.jpg", title="猫" * 100)])
    index.update_payloads({"b.jpg": payload("b.jpg", title="猫" * 100)})
    assert sizes[1] - 4 * DIM == sizes[2] > 300
