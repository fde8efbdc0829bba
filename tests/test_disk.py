"""Files and folders are put on the disk, as the system sees it."""

import os
from pathlib import Path

import pytest

from tuwen.bundle.files import sync


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real call is made, for the very file or folder, and nothing stays open."""
    (tmp_path / "a").write_text("a")
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append((os.fstat(handle).st_ino, real(handle))))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (tmp_path / "a", tmp_path):
        sync(path)
    assert synced == [(path.stat().st_ino, None) for path in (tmp_path / "a", tmp_path)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "b")
