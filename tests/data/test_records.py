from pathlib import Path

import pytest

from tuwen.data.records import NOT_UTF8, Record, read_records
from tuwen.errors import InvalidInput


def read(path: Path, content: str | bytes) -> list[Record]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_records(path))


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.TSV", "\t")])
def test_a_table_is_numbered_by_records_and_by_lines(tmp_path: Path, name: str, mark: str) -> None:
    content = f'\ufeffa{mark}b\r\n1{mark}"x\u2028\ny"\r\n\r\nonly\r\n2{mark}z\r\n'
    assert read(tmp_path / name, content) == [
        Record(1, 3, {"a": "1", "b": "x\u2028\ny"}),
        Record(2, 5, reason="has 1 fields instead of 2"),
        Record(3, 6, {"a": "2", "b": "z"}),
    ]


def test_objects_are_numbered_by_lines(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.NDJSON"):
        assert read(tmp_path / name, b'{"a": ["x", 1]}\r\n\n[1]\n\xff\n' + b"[" * 100_000) == [
            Record(1, 1, {"a": ["x", 1]}),
            Record(2, 2),
            Record(3, 3, reason="is not a JSON object"),
            Record(4, 4, reason=NOT_UTF8),
            Record(5, 5, reason="is not a JSON object"),
        ]


def rows(path: Path, content: str) -> list[tuple[object, ...]]:
    return [tuple(record.fields.values()) for record in read(path, content)]


def test_quotes_that_do_not_parse_are_read_literally(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.csv", 'a\nx\n"y\nz\n') == [("x",), ('"y',), ("z",)]
    table = 'image\tcaption\n1.jpg\t"a dog\n2.jpg\ta 5" screen\n3.jpg\t"so" she said\n4.jpg\ta cat"\n'
    expected = [("1.jpg", '"a dog'), ("2.jpg", 'a 5" screen'), ("3.jpg", '"so" she said'), ("4.jpg", 'a cat"')]
    assert rows(tmp_path / "a.tsv", table) == expected
    quoted = 'image\tcaption\n1.jpg\t"two\nlines"\n2.jpg\t"with ""quotes"""\n'
    assert rows(tmp_path / "b.tsv", quoted) == [("1.jpg", "two\nlines"), ("2.jpg", 'with "quotes"')]
    lost = read(tmp_path / "c.csv", 'image,caption\n1.jpg,"a, b\n2.jpg,c\n')
    assert [record.fields.get("caption") for record in lost] == ['"a, b', "c"]


def test_a_csv_of_a_spreadsheet_may_have_semicolons(tmp_path: Path) -> None:
    table = 'image;caption\r\n1.jpg;"a; b"\r\n2.jpg;one, two\r\n'
    assert rows(tmp_path / "a.csv", table) == [("1.jpg", "a; b"), ("2.jpg", "one, two")]
    assert rows(tmp_path / "b.csv", "image\tcaption\n1.jpg\ta\n") == [("1.jpg", "a")]


def test_nothing_comes_of_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "") == read(tmp_path / "a.csv", "a,b\n") == read(tmp_path / "a.jsonl", "") == []
    with pytest.raises(InvalidInput) as raised:
        list(read_records(tmp_path / "none.csv"))
    assert raised.value.where == tmp_path / "none.csv"


CHINESE = ("一只狗在草地上奔跑。", "两个孩子坐在桌子旁边。", "一个女人骑着自行车穿过街道。")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_utf16_is_read_by_its_byte_order_mark(tmp_path: Path, name: str) -> None:
    separator = {"a.csv": ",", "a.tsv": "\t"}[name]
    table = "".join(
        f"{key}{separator}{text}\n" for key, text in zip(("image", *"123"), ("caption", *CHINESE), strict=True)
    )
    (tmp_path / name).write_bytes(table.encode("utf-16"))
    assert [record.fields["caption"] for record in read_records(tmp_path / name)] == [*CHINESE]


@pytest.mark.parametrize(("encoding", "named"), [("gbk", "gb18030"), ("big5", "big5")])
def test_another_encoding_is_named_and_read_when_it_is_given(tmp_path: Path, encoding: str, named: str) -> None:
    traditional = ("一隻狗在草地上奔跑。", "兩個孩子坐在桌子旁邊。", "一個女人騎著自行車穿過街道。")
    texts = traditional if encoding == "big5" else CHINESE
    file = tmp_path / "a.csv"
    file.write_bytes(
        "".join(["image,caption\n", *(f"{i}.jpg,{text}\n" for i, text in enumerate(texts))]).encode(encoding)
    )
    with pytest.raises(InvalidInput) as raised:
        list(read_records(file))
    assert (raised.value.where, raised.value.value) == (file, named)
    assert f"--encoding {named}" in raised.value.hint
    assert [record.fields["caption"] for record in read_records(file, encoding)] == [*texts]
    with pytest.raises(InvalidInput) as raised:
        list(read_records(file, "no-such-encoding"))
    assert raised.value.value == "no-such-encoding"


def test_a_few_damaged_lines_do_not_make_another_encoding(tmp_path: Path) -> None:
    lines = [f"{i}.jpg,{text}\n".encode() for i, text in enumerate(CHINESE)]
    (tmp_path / "a.csv").write_bytes(b"".join([b"image,caption\n", *lines, b"8.jpg,caf\xe9\n", b"9.jpg,\xff\n"]))
    read_texts = [record.fields["caption"] for record in read_records(tmp_path / "a.csv")]
    assert read_texts == [*CHINESE, "caf\udce9", "\udcff"]


def test_in_two_columns_a_comma_belongs_to_the_second(tmp_path: Path) -> None:
    lines = ("1.jpg,a dog, running", '2.jpg,"a cat, asleep"', '3.jpg,"so", she said, "so"', '4.jpg,a "big" dog, a cat')
    table = "\n".join(("image,caption", *lines))
    expected = ["a dog, running", "a cat, asleep", '"so", she said, "so"', 'a "big" dog, a cat']
    assert [caption for _, caption in rows(tmp_path / "a.csv", table)] == expected


@pytest.mark.parametrize("captions", ["一只猫\n两只狗在草地上奔跑", "两只狗在草地上奔跑\n一只猫\na bird"])
def test_a_short_file_in_another_encoding_gives_no_made_up_caption(tmp_path: Path, captions: str) -> None:
    """The first caption, in GBK, can be read as UTF-8; the other one cannot."""
    assert "一只猫".encode("gbk").decode("utf-8") == "һֻè"
    file = tmp_path / "captions.csv"
    lines = [f"{number}.jpg,{caption}" for number, caption in enumerate(captions.split("\n"))]
    file.write_bytes("\n".join(["image,caption", *lines]).encode("gbk"))
    with pytest.raises(InvalidInput) as caught:
        list(read_records(file))
    assert (caught.value.value, caught.value.where) == ("gb18030", file)
    assert [it.fields["caption"] for it in read_records(file, "gbk")] == captions.split("\n")
