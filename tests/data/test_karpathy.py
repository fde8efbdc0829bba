import json
from pathlib import Path

import pytest

from samples_of import jpeg, read_all, rejected
from tuwen.data.karpathy import list_karpathy
from tuwen.errors import InvalidInput


def entry(name: str, split: str, *texts: str, **more: str) -> dict[str, object]:
    return {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts], **more}


def write(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps({"images": entries, "dataset": "coco"}), encoding="utf-8")
    return path


def test_pictures_of_the_splits_with_all_their_captions(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    entries = (
        entry("a.jpg", "restval", "one", "two", filepath="val2014"),
        entry("b.jpg", "train", "三"),
        entry("c.jpg", "test", "four"),
    )
    file = write(tmp_path / "dataset.json", *entries)
    first, second = read_all(list_karpathy(file, ("train", "restval"), None))
    assert (first.key, first.captions, first.image) == ("val2014/a.jpg", ("one", "two"), jpeg(1))
    assert (second.key, second.captions, second.image) == ("b.jpg", ("三",), jpeg(2))
    (other,) = read_all(list_karpathy(file, ("test",), tmp_path / "elsewhere"))
    assert "cannot be read" in other.reason


def test_entries_that_cannot_be_are_told(tmp_path: Path) -> None:
    twice = entry("a.jpg", "train", "x")
    file = write(tmp_path / "d.json", twice, {"split": "train", "filename": "b.jpg"}, 7, twice)
    assert [line.removeprefix(f"{file}:") for line in rejected(list_karpathy(file, ("train",), None))] == [
        "1: is no entry with a filename and sentences",
        "2: is no entry with a filename and sentences",
        "3: is a.jpg once more",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is no JSON"), ("[1]", "no Karpathy file"), ('{"images": []}', "has no split train")],
)
def test_a_file_that_is_none(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(InvalidInput, match=said):
        list(list_karpathy(tmp_path / "d.json", ("train",), None))
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(list_karpathy(tmp_path / "none.json", ("train",), None))
