from pathlib import Path

import pytest

from samples_of import jpeg, read_all
from tuwen.data.files import Skipped
from tuwen.data.folders import list_pairs
from tuwen.data.samples import Listed
from tuwen.errors import InvalidInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs whose names sort in another order than their keys, in two folders."""
    for name in ("a", "a-1", "a.b", "sub/a", "alone"):
        path = tmp_path / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(len(name)))
        if name != "alone":
            path.with_name(f"{path.stem}.txt").write_text(f" caption of {name}\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"url": "u", "exif": {"iso": 100}, "tags": [1]}', encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not of any picture", encoding="utf-8")
    (tmp_path / "thing.bin").write_bytes(b"\0")
    return tmp_path


def test_pictures_meet_their_captions_by_name(folder: Path) -> None:
    found = list(list_pairs([folder], folder))
    samples = {sample.key: sample for sample in read_all(found)}
    assert {key: sample.captions for key, sample in samples.items()} == {
        "a": ("caption of a",),
        "a-1": ("caption of a-1",),
        "a.b": ("caption of a.b",),
        "sub/a": ("caption of sub/a",),
        "alone": (),
    }
    assert samples["a"].extra == {"url": "u", "exif.iso": 100, "tags": "[1]"}
    assert samples["sub/a"].image == jpeg(5)
    assert (samples["sub/a"].name, samples["sub/a"].place) == ("sub/a.jpg", str(folder / "sub/a.jpg"))
    assert {item.path.name for item in found if isinstance(item, Skipped)} == {"notes.txt", "thing.bin"}


def test_two_pictures_of_one_name_are_two_samples(tmp_path: Path) -> None:
    for ending in ("jpg", "png"):
        (tmp_path / f"cat.{ending}").write_bytes(jpeg())
    (tmp_path / "cat.txt").write_text("a cat", encoding="utf-8")
    assert {sample.key: sample.captions for sample in read_all(list_pairs([tmp_path], tmp_path))} == {
        "cat.jpg": ("a cat",),
        "cat.png": ("a cat",),
    }


def test_a_name_that_is_another_picture_with_an_ending_is_no_second_sample_of_that_key(tmp_path: Path) -> None:
    for name in ("cat.jpg", "cat.png", "cat.jpg.webp", "dog.jpg", "dog.jpg.webp", "cow.jpg.webp"):
        (tmp_path / name).write_bytes(jpeg())
    keys = [item.key for item in list_pairs([tmp_path], tmp_path) if isinstance(item, Listed)]
    assert sorted(keys) == ["cat.jpg", "cat.jpg.webp", "cat.png", "cow.jpg", "dog", "dog.jpg.webp"]


def test_the_order_does_not_depend_on_the_folder(folder: Path) -> None:
    first = [item.line() for item in list_pairs([folder], folder) if isinstance(item, Listed)]
    assert first == [item.line() for item in list_pairs([folder], folder) if isinstance(item, Listed)]


def test_archives_are_passed_on_and_their_lists_passed_over(tmp_path: Path) -> None:
    for name in ("00000.tar", "00000.parquet", "00000_stats.json", "00001.parquet", "2.parquet"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "00001").mkdir()
    found = list(list_pairs([tmp_path], tmp_path))
    assert [item.name for item in found if isinstance(item, Path)] == ["00000.tar", "2.parquet"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        list(list_pairs([tmp_path / "no"], tmp_path))
    assert raised.value.value == tmp_path / "no"
