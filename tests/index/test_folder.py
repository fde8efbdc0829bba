import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuwen.errors import IndexFault
from tuwen.index.storage import creating, disk_usage


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def half() -> None:
        with creating(tmp_path / "photos.tuwen") as aside:
            (aside / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_place_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IndexFault) as raised, creating(tmp_path / "file" / "photos.tuwen"):
        pass
    assert raised.value.where == tmp_path / "file" / "photos.tuwen"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "photos.tuwen").mkdir()
    with creating(tmp_path / "photos.tuwen") as aside:
        (aside / "index.json").touch()
    assert [path.name for path in (tmp_path / "photos.tuwen").iterdir()] == ["index.json"]


def test_an_empty_folder_that_must_stay_is_told(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with pytest.raises(IndexFault) as raised, creating(tmp_path / "link"):
        pass
    assert raised.value.where == tmp_path / "link"
    assert str(tmp_path / "link" / "index.tuwen") in raised.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_what_a_kill_left_long_ago_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".photos.tuwen-new-a", ".photos.tuwen-new-b", ".other-new-a"))
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "file").touch()
    for folder in (old, other):
        os.utime(folder, (time.time() - 7200,) * 2)
    with creating(tmp_path / "photos.tuwen"):
        pass
    assert (old.exists(), new.exists(), other.exists()) == (False, True, True)


def test_files_that_come_and_go_are_measured(tmp_path: Path) -> None:
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            for name in "abcdefgh":
                (tmp_path / name).mkdir()
                (tmp_path / name / "file").touch()
            for name in "abcdefgh":
                (tmp_path / name / "file").unlink()
                (tmp_path / name).rmdir()

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        try:
            for _ in range(300):
                disk_usage(tmp_path)
        finally:
            over.set()
        churning.result()


def test_holes_take_no_room(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**30)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "full").write_bytes(os.urandom(100_000))
    assert 100_000 <= disk_usage(tmp_path) < 2**29
