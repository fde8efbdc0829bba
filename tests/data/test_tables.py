import json
from pathlib import Path

import pytest

from samples_of import jpeg, read_all, rejected
from tuwen.data.samples import Columns, Listed
from tuwen.data.tables import list_table, list_texts
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

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


def places(found: object) -> list[str]:
    return [item.path for item in found if isinstance(item, Rejected)]


def test_rows_that_cannot_be_used_are_rejected(folder: Path) -> None:
    table = write(folder / "t.csv", "key,path\nk,0.jpg\nk,1.jpg\nonly\nu,https://host/x.jpg\nm,missing.jpg\n")
    found = list(list_table(table, "", ANY))
    assert places(found) == [f"{table}:{number}" for number in (2, 3, 4)]
    assert places(read_all(found)) == ["missing.jpg"]
    lines = write(folder / "t.jsonl", '{"text": "a"}\n[1]\n{broken\n{"text": 5}\n')
    assert places(list_table(lines, "", ANY)) == [f"{lines}:{number}" for number in (2, 3, 4)]


def test_missing_captions_are_none(folder: Path) -> None:
    table = write(folder / "t.csv", "image,caption\n0.jpg,NaN\n1.jpg,null\n2.jpg, \n3.jpg,a\n")
    assert [item.captions for item in list_table(table, "", ANY) if isinstance(item, Listed)] == [(), (), (), ("a",)]
    rows = '{"image": "0.jpg", "caption": NaN}\n{"image": "1.jpg", "caption": ["a", null, "", "b"]}\n'
    lists = [item.captions for item in list_table(write(folder / "t.jsonl", rows), "", ANY) if isinstance(item, Listed)]
    assert lists == [(), ("a", "b")]


def test_labels(folder: Path) -> None:
    table = write(folder / "t.csv", "image,label\n0.jpg,cat\n1.jpg,dog\n0.jpg,animal\n")
    found = [item.labels for item in list_table(table, "", ANY) if isinstance(item, Listed)]
    assert found == [("cat", "animal"), ("dog",)]


def test_columns_that_are_missing_are_named(folder: Path) -> None:
    table = write(folder / "t.csv", "a,b\n1,2\n")
    with pytest.raises(InvalidInput) as raised:
        list(list_table(table, "", ANY))
    assert raised.value.where == table
    with pytest.raises(InvalidInput) as raised:
        list(list_table(table, "", Columns(caption="c")))
    assert (raised.value.value, raised.value.where) == ("c", table)


def test_what_is_not_utf8_is_told_and_the_rest_read(folder: Path) -> None:
    (folder / "t.txt").write_bytes(b"a\n\xff\nb\n")
    assert rejected(list_texts(folder / "t.txt", "")) == [f"{folder / 't.txt'}:2: is not UTF-8"]
    (folder / "t.csv").write_bytes(b"path,text\n0.jpg,caf\xe9\n1.jpg,b\n")
    assert rejected(list_table(folder / "t.csv", "", ANY)) == [f"{folder / 't.csv'}:1: is not UTF-8"]
    (sample,) = [item for item in read_all(list_table(folder / "t.csv", "", ANY)) if not rejected([item])]
    assert sample.captions == ("b",)
    chinese = "path,text\n0.jpg,一只狗在草地上奔跑。\n1.jpg,两个孩子坐在桌子旁边。\n1.jpg,一个女人骑着自行车。\n"
    (folder / "t.csv").write_bytes(chinese.encode("gb18030"))
    with pytest.raises(InvalidInput) as raised:
        list(list_table(folder / "t.csv", "", ANY))
    assert raised.value.where == folder / "t.csv"
    given = Columns(encoding="gb18030")
    assert [item.captions for item in read_all(list_table(folder / "t.csv", "", given))] == [
        ("一只狗在草地上奔跑。",),
        ("两个孩子坐在桌子旁边。", "一个女人骑着自行车。"),
    ]
