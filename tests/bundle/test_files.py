"""Replacing files: they are the old ones or the new ones."""

from pathlib import Path

import pytest

from tuwen.bundle.files import replace_text


def test_a_file_is_created_and_replaced(tmp_path: Path) -> None:
    replace_text(tmp_path / "a.txt", "一\n", mode=0o640)
    replace_text(tmp_path / "b.txt", "1")
    replace_text(tmp_path / "b.txt", "2")
    assert (tmp_path / "a.txt").read_bytes() == "一\n".encode()
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == {"a.txt": "一\n", "b.txt": "2"}


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_text(tmp_path / "a.txt", "new\udcff")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power failure, a name never points to content that was not written yet."""
    flushed = list[str]()
    monkeypatch.setattr("os.fsync", lambda _: flushed.append((tmp_path / "a.txt").read_text()))
    (tmp_path / "a.txt").write_text("old")
    replace_text(tmp_path / "a.txt", "new")
    assert flushed == ["old", "new"]  # the content, then the folder with the name
