from pathlib import Path

import pytest

from tuwen.errors import InvalidInput
from tuwen.evaluation.calibrate import Probe, labelled_probes, random_probes
from tuwen.index.store import row_id
from tuwen.search.query import RowId


def ids(*keys: str) -> tuple[str, ...]:
    return tuple(str(row_id(key)) for key in keys)


EXPECTED = [
    Probe("red", ids("red/red-0.jpg", "red/red-1.jpg")),
    Probe("an astrolabe"),
    Probe("红, 红", ids("red/red-2.jpg")),
    Probe("狗" * 100),
]
WRITTEN = {
    "queries.jsonl": """{"query": "red", "paths": ["red/red-0.jpg", "red/red-1.jpg"]}

{"query": "an astrolabe", "paths": []}
{"query": "红, 红", "paths": ["red/red-2.jpg"]}
{"query": "%s", "paths": []}
"""
    % ("狗" * 100),
    "queries.csv": 'red,red/red-0.jpg,red/red-1.jpg\nan astrolabe\n\n"红, 红",red/red-2.jpg,\n' + "狗" * 100,
    "queries.TSV": "\ufeffred\tred/red-0.jpg\tred/red-1.jpg\r\nan astrolabe\r\n红, 红\tred/red-2.jpg\r\n" + "狗" * 100,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_queries_are_read_in_every_form(filled, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(WRITTEN[name], encoding="utf-8")
    probes = labelled_probes(file, filled)
    assert probes == EXPECTED
    assert [probe.matches for probe in probes] == [True, False, True, False]
    assert {probe.kind for probe in probes} == {"text"}


def test_a_query_may_be_a_picture_and_a_match_a_file(filled, tmp_path: Path, photos: Path) -> None:
    match = filled.root / "red" / "red-1.jpg"
    file = tmp_path / "queries.csv"
    file.write_text(f"PHOTOS/red/red-0.jpg,{match}\n", encoding="utf-8")
    (probe,) = labelled_probes(file, filled)
    assert probe == Probe(photos / "red" / "red-0.jpg", ids("red/red-1.jpg"))
    assert probe.kind == "image"


@pytest.mark.parametrize(
    ("name", "text", "line", "value"),
    [
        ("q.csv", "red,red/red-0.jpg\nblue,gone.jpg\n", ", line 2", "gone.jpg"),
        ("q.csv", " ,red/red-0.jpg\n", ", line 1", " "),
        ("q.csv", 'red,"red\n', ", line 1", None),
        ("q.csv", "\n", "", None),
        ("q.jsonl", '{"query": "a"}\n', ", line 1", {"query": "a"}),
        ("q.jsonl", '{"query": "a", "paths": "b.jpg"}\n', ", line 1", {"query": "a", "paths": "b.jpg"}),
        ("q.jsonl", '\n{"query": \n', ", line 2", '{"query": '),
        ("q.txt", "red\n", "", ".txt"),
    ],
)
def test_an_unreadable_query_is_reported_with_its_line(
    filled, tmp_path: Path, name: str, text: str, line: str, value: object
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as raised:
        labelled_probes(tmp_path / name, filled)
    assert (str(raised.value.where), raised.value.value) == (f"{tmp_path / name}{line}", value)


def test_a_file_that_is_not_utf8_is_named(filled, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_bytes("红".encode("gbk"))
    with pytest.raises(InvalidInput) as raised:
        labelled_probes(tmp_path / "q.csv", filled)
    assert raised.value.where == tmp_path / "q.csv"


def test_random_queries_are_the_same_every_time(filled, encoder) -> None:
    probes = random_probes(6, encoder, filled)
    assert probes == random_probes(6, encoder, filled)
    texts = [probe.what for probe in probes if isinstance(probe.what, str)]
    rows = [probe.what.id for probe in probes if isinstance(probe.what, RowId)]
    assert (len(set(texts)), len(set(rows))) == (6, 6)
    assert {row.id for row in filled.list()} > set(rows)
    assert [probe.matches for probe in probes] == [False] * 6 + [True] * 6
    assert len(random_probes(99, encoder, filled)) == 99 + filled.info().rows
