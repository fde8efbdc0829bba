import json
from pathlib import Path

import pytest

from samples_of import jpeg, read_all
from tuwen.data.annotations import list_karpathy
from tuwen.errors import InvalidInput
from tuwen.types import Rejected


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
    assert isinstance(other, Rejected)


def test_entries_that_cannot_be_used_are_rejected(tmp_path: Path) -> None:
    twice = entry("a.jpg", "train", "x")
    file = write(tmp_path / "d.json", twice, {"split": "train", "filename": "b.jpg"}, 7, twice)
    found = [item.path for item in list_karpathy(file, ("train",), None) if isinstance(item, Rejected)]
    assert found == [f"{file}:{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("content", ["{", "[1]", '{"images": []}'])
def test_files_that_are_not_annotations(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content)
    for name in ("d.json", "none.json"):
        with pytest.raises(InvalidInput) as raised:
            list(list_karpathy(tmp_path / name, ("train",), None))
        assert raised.value.where == tmp_path / name
