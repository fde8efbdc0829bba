import json
from pathlib import Path

import pytest

from samples_of import jpeg, read_all, rejected
from tuwen.data.tables import Columns, list_table, list_texts
from tuwen.errors import InvalidInput

ANY = Columns()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(2):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_one_picture_are_its_captions(folder: Path) -> None:
    table = write(folder / "t.csv", 'image,caption,split\n0.jpg,"one, two",a\n1.jpg,three,b\n0.jpg,four,a\n')
    first, second = read_all(list_table(table, "", ANY))
    assert (first.key, first.captions, first.image) == ("0.jpg", ("one, two", "four"), jpeg(0))
    assert (second.key, second.captions, second.extra) == ("1.jpg", ("three",), {"split": "b"})


def test_tabs_byte_order_mark_and_windows_line_ends(folder: Path) -> None:
    table = folder / "t.tsv"
    table.write_bytes("\ufefffilepath\ttitle\r\n0.jpg\ta\r\n".encode())
    (sample,) = read_all(list_table(table, "t.tsv/", ANY))
    assert (sample.key, sample.captions, sample.place) == ("t.tsv/0.jpg", ("a",), str(folder / "0.jpg"))


def test_json_lines_with_lists_of_captions_and_named_columns(folder: Path) -> None:
    rows = [{"image": "0.jpg", "en": ["a", "b"], "n": 1}, {"image": "1.jpg", "en": "c", "n": 2}]
    table = write(folder / "t.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    first, second = read_all(list_table(table, "", Columns(caption="en", key="n")))
    assert (first.key, first.captions) == ("1", ("a", "b"))
    assert (second.key, second.captions) == ("2", ("c",))


def test_texts_alone(folder: Path) -> None:
    assert [s.captions for s in read_all(list_table(write(folder / "t.csv", "text\na\nb\n"), "", ANY))] == [
        ("a",),
        ("b",),
    ]
    samples = read_all(list_texts(write(folder / "t.txt", "a\n\n 红 \r\n"), ""))
    assert [(s.key, s.captions, s.image) for s in samples] == [("1", ("a",), None), ("3", ("红",), None)]


def test_rows_that_cannot_be_are_told(folder: Path) -> None:
    table = write(folder / "t.csv", "key,path\nk,0.jpg\nk,1.jpg\nonly\nu,https://host/x.jpg\nm,missing.jpg\n")
    found = list(list_table(table, "", ANY))
    assert [line.removeprefix(f"{table}:") for line in rejected(found)] == [
        "2: has the key 'k' of an earlier row, but another picture",
        "3: has 1 fields, the first line has 2",
        "4: https://host/x.jpg is an address: nothing is fetched from a network",
    ]
    assert rejected(read_all(found)) == ["missing.jpg: cannot be read: No such file or directory"]
    lines = write(folder / "t.jsonl", '{"text": "a"}\n[1]\n{broken\n')
    assert [line[-19:] for line in rejected(list_table(lines, "", ANY))] == [": is no JSON object"] * 2


def test_columns_that_are_not_there_are_told(folder: Path) -> None:
    table = write(folder / "t.csv", "a,b\n1,2\n")
    with pytest.raises(InvalidInput, match=r"no column that is known to hold pictures or captions, but a, b"):
        list(list_table(table, "", ANY))
    with pytest.raises(InvalidInput, match="has no column 'c'; its columns are a, b"):
        list(list_table(table, "", Columns(caption="c")))


def test_what_is_not_utf8_is_told_and_the_rest_read(folder: Path) -> None:
    (folder / "t.txt").write_bytes(b"a\n\xff\nb\n")
    assert rejected(list_texts(folder / "t.txt", "")) == [f"{folder / 't.txt'}:2: is not UTF-8"]
    (folder / "t.csv").write_bytes(b"path,text\n0.jpg,caf\xe9\n1.jpg,b\n")
    assert rejected(list_table(folder / "t.csv", "", ANY)) == [f"{folder / 't.csv'}:1: is not UTF-8"]
    (sample,) = [item for item in read_all(list_table(folder / "t.csv", "", ANY)) if not rejected([item])]
    assert sample.captions == ("b",)
    (folder / "t.csv").write_bytes("text\na\n".encode("utf-16"))
    with pytest.raises(InvalidInput, match="is UTF-16: save it as UTF-8"):
        list(list_table(folder / "t.csv", "", ANY))


def test_a_table_that_breaks_off_gives_what_is_before(folder: Path) -> None:
    found = list(list_table(write(folder / "t.csv", 'text\na\n"b\nc\n'), "", ANY))
    assert [item.captions for item in read_all(found)] == [("a",)]
    assert rejected(found) == [f"{folder / 't.csv'}: cannot be read beyond line 4: unexpected end of data"]
