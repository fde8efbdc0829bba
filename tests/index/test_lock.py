"""Two real processes and one lock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tuwen.errors import IndexFault, IndexLocked
from tuwen.index.lock import Lock

HOLD = """
import sys, time
from pathlib import Path
from tuwen.index.lock import Lock
lock = Lock(Path(sys.argv[-1]))
lock.acquire(30)
print("held", flush=True)
sys.stdin.readline()
lock.release()
"""


@contextmanager
def holder(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is sent a line, or killed."""
    command = [sys.executable, "-c", HOLD, *words, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(folder: Path, timeout: float = 0.0) -> str:
    with pytest.raises(IndexLocked) as caught:
        Lock(folder).acquire(timeout)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_second_process_is_told_who_the_first_is(tmp_path: Path) -> None:
    with holder(tmp_path, "index", "build", "PHOTOS") as process:
        start = time.monotonic()
        text = refusal(tmp_path, timeout=0.3)
        assert 0.3 <= time.monotonic() - start < 5
    assert text.startswith(f"{tmp_path} is in use by process {process.pid} (")
    assert "index build PHOTOS" in text
    assert f"since {time.strftime('%Y-%m-')}" in text
    assert "waited 0.3 s" in text


def test_the_second_process_gets_it_as_soon_as_it_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        start = time.monotonic()
        lock = Lock(tmp_path)
        lock.acquire(30)
        assert time.monotonic() - start < 20
    lock.release()
    assert not (tmp_path / "lock.json").exists()


def test_a_killed_holder_leaves_no_lock_and_no_name(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == process.pid
        lock = Lock(tmp_path)
        lock.acquire(0)
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
        lock.release()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}', None])
def test_a_name_that_is_not_the_holder_s_is_not_told(tmp_path: Path, left: str | None) -> None:
    """Between taking the lock and signing it, what stands there is of somebody who is gone, or half written."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        pass
    with holder(tmp_path):
        if left is None:
            signed = json.loads((tmp_path / "lock.json").read_text())
            left = json.dumps({**signed, "pid": gone.pid, "command": "long gone"})
        (tmp_path / "lock.json").write_text(left)
        text = refusal(tmp_path)
    assert "another process" in text
    assert "gone" not in text


def test_the_same_number_elsewhere_is_not_this_process(tmp_path: Path) -> None:
    """In two containers on one volume, both may be process 1."""
    with holder(tmp_path):
        signed = json.loads((tmp_path / "lock.json").read_text())
        (tmp_path / "lock.json").write_text(json.dumps({**signed, "pid": os.getpid(), "host": "elsewhere"}))
        text = refusal(tmp_path)
    assert f"process {os.getpid()} on elsewhere" in text
    assert "this process" not in text


def test_the_same_process_is_refused_without_waiting(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    lock.acquire(0)
    assert "this process" in refusal(tmp_path, timeout=60)
    lock.release()
    lock.release()
    lock.acquire(0)
    lock.release()


def test_a_long_command_is_cut_and_stays_one_line(tmp_path: Path) -> None:
    with holder(tmp_path, "a\nb\x1b[31m", "x" * 500):
        text = refusal(tmp_path)
    assert "…" in text
    assert "\x1b" not in text
    assert len(text) < 300 + len(str(tmp_path))


def test_a_lock_that_cannot_be_signed_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "lock.json").mkdir()
    lock = Lock(tmp_path)
    with pytest.raises(IndexFault) as raised:
        lock.acquire(0)
    assert raised.value.where == tmp_path
    (tmp_path / "lock.json").rmdir()
    other = Lock(tmp_path)
    other.acquire(0)
    other.release()


def test_a_folder_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(IndexFault) as raised:
        Lock(tmp_path).acquire(0)
    assert raised.value.where == tmp_path
