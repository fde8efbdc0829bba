from pathlib import Path

import pytest

from samples_of import jpeg, write_tar
from tuwen.data.datasets import is_bulk, list_samples, root_of
from tuwen.data.samples import Listed
from tuwen.data.tables import Columns
from tuwen.errors import InvalidInput


def keys(*sources: Path) -> list[str]:
    return [item.key for item in list_samples(sources, Columns()) if isinstance(item, Listed)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two folders with a picture each, and archives that hold the same keys."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.jpg").write_bytes(jpeg())
        write_tar(tmp_path / name / "0.tar", {"cat.jpg": jpeg()})
    (tmp_path / "t.txt").write_text("a\nb\n", encoding="utf-8")
    return tmp_path


def test_no_two_samples_have_the_same_key(folder: Path) -> None:
    assert keys(folder / "one") == ["0.tar/cat", "cat"]
    assert keys(folder / "one" / "0.tar") == ["cat"]
    assert keys(folder / "one", folder / "two", folder / "t.txt") == [
        *("one/0.tar/cat", "one/cat", "two/0.tar/cat", "two/cat", "t.txt/1", "t.txt/2")
    ]
    assert keys(folder) == ["one/0.tar/cat", "one/cat", "two/0.tar/cat", "two/cat"]


def test_roots(folder: Path) -> None:
    assert root_of([folder / "one"]) == folder / "one"
    assert root_of([folder / "t.txt"]) == folder
    assert root_of([folder / "one", folder / "two"]) == folder


def test_what_is_bulk(folder: Path) -> None:
    assert is_bulk(folder)
    assert is_bulk(folder / "X.TAR")
    assert not is_bulk(folder / "one" / "cat.jpg")
    assert not is_bulk(Path("狗" * 100))  # a text that is longer than any name


def test_sources_that_cannot_be_are_told(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        keys(folder / "no")
    with pytest.raises(InvalidInput, match=r"cat\.jpg is no folder and no \.csv"):
        keys(folder / "one" / "cat.jpg")
    with pytest.raises(InvalidInput, match="named twice, or lies in another"):
        keys(folder, folder / "one")
