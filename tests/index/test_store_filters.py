"""Every store finds exactly the rows that a condition means, for conditions nobody thought of."""

import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluating import holds, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import FakeModel, vectors

from local_cluster import LOCAL_MODE_SAYS, local_cluster
from tuwen.index.filters import FIELDS, And, Compare, Condition, Near, Not, OneOf, Or, parse
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.types import Payload, Row

WORDS = ("", "a", "aé", "a/b", "猫", "猫/犬", "é", 'q"', "b\\", "a\n", "😀", "x" * 300)
NUMBERS = (-1, 0, 1, 2, 3, 640, 2**31, 2**40)
KINDS = ("image", "text", "im", "t", "", "video")
TIMES = (0.0, -1.5, 1_700_000_000.123456, 1_700_000_000.1234567, 1_700_000_000.1234569, 1.7e9, 0.1, 1e-7, 3e300)
PLACES = ((52.52, 13.405), (52.5163, 13.3777), (48.8566, 2.3522), (-33.8688, 151.2093), (0.0, 179.99), (0.0, -179.99))
COUNT = 60


def payloads() -> dict[str, Payload]:
    """Facts of rows, some of which lack some."""
    chance = random.Random(7)
    kinds = {str: WORDS, int: NUMBERS, float: TIMES}
    made = {}
    for i in range(COUNT):
        facts = {name: chance.choice(kinds[kind]) for name, kind in FIELDS.items() if chance.random() < 0.9}
        made[f"{i}"] = {**facts, "type": "image", "path": f"{i}"}
        if chance.random() < 0.6:
            made[f"{i}"] |= dict(zip(("latitude", "longitude"), chance.choice(PLACES), strict=True))
        if chance.random() < 0.3:
            made[f"{i}"] |= {"type": "text", "text": chance.choice(WORDS)}
    return made


ROWS = payloads()


pytestmark = [pytest.mark.filterwarnings(f"ignore:{said}") for said in LOCAL_MODE_SAYS]


@pytest.fixture(scope="module", params=["qdrant-edge", "faiss", "qdrant"])
def filled(request: pytest.FixtureRequest, memory: Path) -> Iterator[VectorIndex]:
    if request.param != "qdrant":
        yield from written_and_reopened(memory / f"filled-{request.param}.tuwen", request.param)
        return
    with pytest.MonkeyPatch.context() as patch, local_cluster(patch) as cluster:
        yield from written_and_reopened(cluster, request.param)


def written_and_reopened(folder: Location, store: str) -> Iterator[VectorIndex]:
    """Half of the rows as they were written, half as they are after reopening."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        VectorIndex.create(folder, encoder=FakeModel(), store=store).close()
    made = [Row(key, vector, ROWS[key]) for key, vector in zip(ROWS, vectors(COUNT), strict=True)]
    with VectorIndex.open(folder, encoder=FakeModel()) as index:
        index.upsert(made[: COUNT // 2])
    with VectorIndex.open(folder, encoder=FakeModel()) as index:
        index.upsert(made[COUNT // 2 :])
        yield index


def compared(field: str) -> st.SearchStrategy[Condition]:
    if FIELDS[field] is str:
        values = st.sampled_from(KINDS if field == "type" else WORDS) | st.text("aé猫/😀", max_size=2)
        operators = st.sampled_from(("==", "startswith", "contains"))
    else:
        known = st.sampled_from(NUMBERS if FIELDS[field] is int else TIMES)
        values = known | known.map(lambda it: it + 0.5)
        operators = st.sampled_from(("==", "<", "<=", ">", ">="))
    one_of = st.builds(OneOf, st.just(field), st.lists(values, max_size=3).map(tuple))
    return st.builds(Compare, st.just(field), operators, values) | one_of


def several(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    many = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.builds(Not, parts) | st.builds(And, many) | st.builds(Or, many)


AROUND = st.builds(
    lambda place, metres: Near(*place, metres), st.sampled_from(PLACES), st.sampled_from((1.0, 2e3, 5e3, 9e5, 1e7))
)
CONDITIONS = st.recursive(st.sampled_from(sorted(FIELDS)).flatmap(compared) | AROUND, several, max_leaves=8)


def check(filled: VectorIndex, condition: Condition) -> None:
    meant = sorted(key for key, payload in ROWS.items() if holds(condition, payload))
    where = written(condition)
    assert sorted(key for key, payload in ROWS.items() if holds(parse(where), payload)) == meant
    hits = filled.search(vectors(1)[0], k=COUNT, where=where)
    assert sorted(str(hit.payload["path"]) for hit in hits) == meant


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@examples(50)
@given(CONDITIONS)
def test_a_filter_finds_the_rows_it_means(filled: VectorIndex, condition: Condition) -> None:
    check(filled, condition)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@examples(3_000)
@given(CONDITIONS)
def test_three_thousand_filters_find_the_rows_they_mean(filled: VectorIndex, condition: Condition) -> None:
    check(filled, condition)


FOUND = [
    'folder == "猫"',
    "width < 2",
    "modified <= 1700000000.123456",
    'not name contains "a"',
    "bytes != 0",
    'type == "text" and text == ""',
    'type startswith "im"',
    "near(52.52, 13.40, 3 km)",
    "near(0, 180, 5 km) or near(48.9, 2.3, 900 m)",
]


def test_the_rows_are_such_that_the_test_can_fail(filled: VectorIndex) -> None:
    assert {row.payload["path"]: row.payload for row in filled.list()} == ROWS
    for where in FOUND:
        listed = [row.payload["path"] for row in filled.list(where)]
        assert listed == sorted(key for key, payload in ROWS.items() if holds(parse(where), payload))
        assert 0 < len(listed) < COUNT
