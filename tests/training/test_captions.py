"""Which captions a picture has, by language, and which is drawn."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from samples_of import write_tar
from training.making import picture, stream_of
from tuwen.data.datasets import SampleReader
from tuwen.data.samples import Sample
from tuwen.errors import InvalidInput
from tuwen.training.config import DataConfig, PairSource
from tuwen.training.pairs import Captions, Listing, draw

FACTS = json.dumps({"en": "the dog", "zh": ["狗", "小狗"], "n": 3})


def captions(path: Path, **settings: Any) -> Captions:
    """Those of the first pair of a source."""
    pair = Listing([PairSource(path=path, **settings)])[0]
    sample = pair.read(SampleReader())
    assert isinstance(sample, Sample)
    return sample.by_language(pair.source.language or "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(picture(1))
    (tmp_path / "a.txt").write_text(" a dog \n\n一只狗\n", encoding="utf-8")
    (tmp_path / "a.json").write_text(FACTS, encoding="utf-8")
    return tmp_path


def test_each_line_beside_a_picture_is_a_caption(folder: Path) -> None:
    assert captions(folder) == {"": ("a dog", "一只狗")}
    assert captions(folder, language="zh") == {"zh": ("a dog", "一只狗")}


def test_fields_beside_a_picture_by_language(folder: Path) -> None:
    assert captions(folder, captions={"en": "en", "zh": "zh", "fr": "fr"}) == {
        "en": ("the dog",),
        "zh": ("狗", "小狗"),
    }
    assert captions(folder, captions="zh", language="zh") == {"zh": ("狗", "小狗")}


def test_members_of_an_archive_are_as_files(tmp_path: Path) -> None:
    members = {"a.jpg": picture(1), "a.txt": b"a dog\nthe dog", "a.json": FACTS.encode()}
    tar = write_tar(tmp_path / "x.tar", members)
    assert captions(tar) == {"": ("a dog", "the dog")}
    assert captions(tar, captions={"zh": "zh"}) == {"zh": ("狗", "小狗")}


def test_columns_by_language(folder: Path) -> None:
    row = {"image": "a.jpg", "caption": "[not a list", "zh": ["狗", " "], "none": None}
    (folder / "x.jsonl").write_text(json.dumps(row), encoding="utf-8")
    columns = {"en": "caption", "zh": "zh", "fr": "none"}
    assert captions(folder / "x.jsonl", captions=columns) == {"en": ("[not a list",), "zh": ("狗",)}
    turned = {"zh": "zh", "en": "caption"}  # the usual name is not lost where it is not asked for first
    assert captions(folder / "x.jsonl", captions=turned) == {"en": ("[not a list",), "zh": ("狗",)}


def test_several_rows_of_a_picture_are_several_captions(folder: Path) -> None:
    (folder / "x.csv").write_text('image,caption\na.jpg,"one, two"\na.jpg,three\n', encoding="utf-8")
    assert captions(folder / "x.csv") == {"": ("one, two", "three")}


def test_captions_in_another_encoding(folder: Path) -> None:
    (folder / "x.csv").write_bytes("image,caption\na.jpg,一只狗\na.jpg,狗在草地上\n".encode("gb18030"))
    assert captions(folder / "x.csv", encoding="gb18030") == {"": ("一只狗", "狗在草地上")}
    (folder / "a.txt").write_bytes("一只狗".encode("gb18030"))
    assert captions(folder, encoding="gb18030") == {"": ("一只狗",)}


def test_several_rows_in_several_languages_are_captions_of_one_picture(folder: Path) -> None:
    (folder / "long.csv").write_text("image,caption,lang\na.jpg,one,en\na.jpg,二,zh\na.jpg,two,en\n", encoding="utf-8")
    assert captions(folder / "long.csv", language_column="lang") == {"en": ("one", "two"), "zh": ("二",)}
    (folder / "wide.csv").write_text("image,en,zh\na.jpg,,一\na.jpg,two,二\n", encoding="utf-8")
    columns = {"en": "en", "zh": "zh"}
    assert captions(folder / "wide.csv", captions=columns) == {"en": ("two",), "zh": ("一", "二")}
    rows = [
        {"image": "a.jpg", "caption": ["one", "two"], "lang": "en"},
        {"image": "a.jpg", "caption": "二", "lang": "zh"},
    ]
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert captions(folder / "x.jsonl", language_column="lang") == {"en": ("one", "two"), "zh": ("二",)}


def test_a_row_without_a_caption_in_the_first_language_is_a_pair(folder: Path) -> None:
    (folder / "x.jsonl").write_text('{"image": "a.jpg", "en": null, "zh": "狗"}', encoding="utf-8")
    assert captions(folder / "x.jsonl", captions={"en": "en", "zh": "zh"}) == {"zh": ("狗",)}


def test_the_language_of_a_picture_in_a_field_beside_it(folder: Path) -> None:
    (folder / "a.json").write_text('{"LANGUAGE": "zh", "both": ["dog", "狗"], "of": ["en", "zh"]}', encoding="utf-8")
    assert captions(folder, language_column="LANGUAGE") == {"zh": ("a dog", "一只狗")}
    assert captions(folder, captions="both", language_column="of") == {"en": ("dog",), "zh": ("狗",)}
    assert captions(folder, captions="both", language_column="none") == {"": ("dog", "狗")}


def test_languages_are_drawn_by_weight() -> None:
    both: Captions = {"en": ("a", "b"), "zh": ("狗",), "de": ("d",)}
    drawn = Counter(draw(both, {"en": 1.0, "zh": 3.0}, Random(number)) for number in range(4000))
    assert set(drawn) == {"a", "b", "狗"}
    assert abs(drawn["狗"] - 3000) < 150
    assert abs(drawn["a"] - 500) < 100
    assert draw({"de": ("d",)}, {"en": 1.0}, Random(0)) is None
    every = Counter(draw(both, {}, Random(number)) for number in range(4000))
    assert all(abs(every[text] - 1000) < 150 for text in ("a", "b", "狗", "d"))


def test_another_caption_may_come_in_another_epoch(folder: Path) -> None:
    (folder / "a.txt").write_text("the\ndog\ncat\non\n", encoding="utf-8")
    stream = stream_of(folder, batch=1)
    keys = [int(batch.text_keys[0]) for _ in range(12) for batch in stream]
    again = stream_of(folder, batch=1)
    assert keys == [int(batch.text_keys[0]) for _ in range(12) for batch in again]
    assert len(set(keys)) > 2


def test_a_picture_without_a_caption_in_these_languages_is_bad(folder: Path) -> None:
    source = PairSource(path=folder, captions={language: language for language in ("en", "zh", "fr", "de")})
    assert len(list(stream_of(DataConfig(train=(source,), languages={"zh": 1.0}), batch=1))) == 1
    stream = stream_of(DataConfig(train=(source,), languages={"fr": 1.0, "de": 1.0}, max_bad=1), batch=1)
    with pytest.raises(InvalidInput) as raised:
        list(stream)
    assert raised.value.where == "data.max_bad"
