import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuwen.bundle.files import cached_sha256, sha256


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_sha256_is_the_standard_one(file: Path) -> None:
    assert sha256(file) == hashlib.sha256(b"content").hexdigest() == cached_sha256(file, None)


def entry(cache: Path) -> Path:
    (found,) = (cache / "digests").iterdir()
    return found


def test_an_unchanged_file_is_answered_from_the_cache(file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cached_sha256(file, cache)
    stamp, _ = json.loads(entry(cache).read_text())
    entry(cache).write_text(json.dumps([stamp, "remembered"]))
    assert cached_sha256(file, cache) == "remembered"


@pytest.mark.parametrize("change", ["size", "time", "file"])
def test_a_changed_file_is_read_again(file: Path, tmp_path: Path, change: str) -> None:
    cache = tmp_path / "cache"
    cached_sha256(file, cache)
    state = file.stat()
    if change == "size":
        file.write_bytes(b"contents")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "time":
        file.write_bytes(b"CONTENT")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    else:
        other = tmp_path / "other"
        other.write_bytes(b"CONTENT")
        os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
        other.rename(file)
    assert cached_sha256(file, cache) == sha256(file)


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '"text"', "[[1,2,3]]"])
def test_a_damaged_entry_is_as_good_as_none(file: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache"
    cached_sha256(file, cache)
    entry(cache).write_text(content)
    assert cached_sha256(file, cache) == sha256(file)
    assert json.loads(entry(cache).read_text())[1] == sha256(file)


def test_many_at_once_leave_one_whole_entry(file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: cached_sha256(file, cache), range(64)))
    assert digests == {sha256(file)}
    assert json.loads(entry(cache).read_text())[1] == sha256(file)
