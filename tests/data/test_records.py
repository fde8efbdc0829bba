from pathlib import Path

import pytest

from tuwen.data.captions import NOT_UTF8, Record, read_records
from tuwen.errors import InvalidInput


def read(path: Path, content: str | bytes) -> list[Record]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(path))


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.TSV", "\t")])
def test_a_table_is_numbered_by_records_and_by_lines(tmp_path: Path, name: str, mark: str) -> None:
    content = f'\ufeffa{mark}b\r\n1{mark}"x\u2028\ny"\r\n\r\nonly\r\n2{mark}z\r\n'
    assert read(tmp_path / name, content) == [
        Record(1, 3, {"a": "1", "b": "x\u2028\ny"}),
        Record(2, 5, reason="has 1 fields, the first line has 2"),
        Record(3, 6, {"a": "2", "b": "z"}),
    ]


def test_objects_are_numbered_by_lines(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.NDJSON"):
        assert read(tmp_path / name, b'{"a": ["x", 1]}\r\n\n[1]\n\xff\n' + b"[" * 100_000) == [
            Record(1, 1, {"a": ["x", 1]}),
            Record(2, 2),
            Record(3, 3, reason="is no JSON object"),
            Record(4, 4, reason=NOT_UTF8),
            Record(5, 5, reason="is no JSON object"),
        ]


def test_a_quote_that_is_not_closed_ends_the_file(tmp_path: Path) -> None:
    *_, last = read(tmp_path / "a.csv", 'a\nx\n"y\nz\n')
    assert (last.last, last.number, last.reason) == (True, 2, "unexpected end of data")


def test_nothing_comes_of_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "") == read(tmp_path / "a.csv", "a,b\n") == read(tmp_path / "a.jsonl", "") == []
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(read_records(tmp_path / "none.csv"))
    with pytest.raises(InvalidInput, match="is UTF-16"):
        read(tmp_path / "a.csv", "a\n1\n".encode("utf-16"))
