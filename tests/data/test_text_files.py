from pathlib import Path

import pytest

from tuwen.data.records import NOT_UTF8
from tuwen.data.samples import Columns
from tuwen.data.tables import Caption, NoCaption, read_captions
from tuwen.errors import InvalidInput


def read(path: Path, content: str | bytes, **columns: str) -> list[Caption | NoCaption]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_captions(path, Columns(**columns)))


def test_a_line_is_a_text_and_its_number_the_name(tmp_path: Path) -> None:
    found = read(tmp_path / "a.txt", "\ufeffa dog \r\n\n \t\n一只狗\u2028在草地上\nlast")
    assert found == [
        Caption("1", "a dog", 1),
        NoCaption(2),
        NoCaption(3),
        Caption("4", "一只狗\u2028在草地上", 4),
        Caption("5", "last", 5),
    ]


@pytest.mark.parametrize("bad", [b"caf\xe9", b"\xff\xd8\xff\xe0", b"nul\0l"])
def test_lines_that_are_no_text_stop_nothing(tmp_path: Path, bad: bytes) -> None:
    found = read(tmp_path / "a.txt", b"one\n" + bad + b"\nthree\n")
    assert found == [Caption("1", "one", 1), NoCaption(2, NOT_UTF8), Caption("3", "three", 3)]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.TSV", "\t")])
def test_columns_by_their_usual_names(tmp_path: Path, name: str, separator: str) -> None:
    rows = [("id", "size", "caption"), ("x", "1", f'"a{separator} ""b""\nc"'), ("y", "2", ""), ("z", "3", "d")]
    found = read(tmp_path / name, "".join(f"{separator.join(row)}\r\n" for row in rows))
    assert found == [Caption("x", f'a{separator} "b"\nc', 3), NoCaption(4), Caption("z", "d", 5)]


def test_columns_that_are_named(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "id,en,image\n1,dog,d.jpg\n2,cat,c.jpg\n", caption="en", key="image")
    assert found == [Caption("d.jpg", "dog", 2), Caption("c.jpg", "cat", 3)]


def test_a_key_that_comes_again_is_numbered(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "key,text\nd,a\nd,b\nd/2,c\nd,d\n7,e\n7,f\n")
    names = [item.name for item in found if isinstance(item, Caption)]
    assert names == ["d", "d/2", "d/2/2", "d/3", "7", "7/2"]


def test_a_record_of_other_length_is_told(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "text,b\none,1\ntwo\n\nfour,4,5\n")
    assert [item.line for item in found if isinstance(item, NoCaption)] == [3, 5]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        '{"id": 7, "text": "a"}',
        '{"key": "k", "caption": ["b", "", "c"]}',
        "",
        "[1]",
        '{"text": 5}',
        '{"text": null}',
        '{"x": "d"}',
        '{"text": "\\ud800"}',
        '{"text": "e"',
    ]
    found = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert [item for item in found if isinstance(item, Caption)] == [
        Caption("7", "a", 1),
        Caption("k/1", "b", 2),
        Caption("k/3", "c", 2),
    ]
    reasons = {item.line: bool(item.reason) for item in found if isinstance(item, NoCaption)}
    assert reasons == {
        2: False,
        3: False,
        **dict.fromkeys((4, 5, 7, 8, 9), True),
        6: False,
    }


@pytest.mark.parametrize(
    ("name", "content", "columns", "value"),
    [
        ("a.csv", "a,b\n1,2\n", {}, None),
        ("a.csv", "a,b\n1,2\n", {"caption": "c"}, "c"),
        ("a.csv", "a,b\n1,2\n", {"caption": "a", "key": "c"}, "c"),
        ("a.txt", "a\n", {"caption": "c"}, None),
        ("a.txt", "一只狗在草地上奔跑。\n两个孩子坐在桌子旁边。\n一个女人骑着自行车。\n".encode("gbk"), {}, "gb18030"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, name: str, content: str | bytes, columns: dict[str, str], value: str | None
) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(tmp_path / name, content, **columns)
    assert (raised.value.where, raised.value.value) == (tmp_path / name, value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        list(read_captions(tmp_path / "a.txt", Columns()))
    assert raised.value.where == tmp_path / "a.txt"


def test_an_empty_file_has_no_texts(tmp_path: Path) -> None:
    assert read(tmp_path / "a.txt", "") == read(tmp_path / "a.csv", "") == read(tmp_path / "a.jsonl", "") == []


def test_real_captions(shared_data: Path) -> None:
    file = shared_data / "flickr8k_200" / "captions.jsonl"
    found = list(read_captions(file, Columns(caption="zh", key="image")))
    assert len(found) == 5 * 200
    assert all(isinstance(item, Caption) for item in found)
