"""The same job on a real Ray cluster of several processes: the same files, also when a worker is killed midway."""

import io
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from PIL import Image

import colours
from journeys.conftest import Terminal

pytestmark = [pytest.mark.journey, pytest.mark.long]

RAY = ("--engine", "ray", "--address")


@pytest.fixture
def terminal(tmp_path: Path, home: Path):
    """As any terminal; but Ray looks up this machine's own name, and binds to any address to find a port."""
    terminal = Terminal(tmp_path, home)
    yield terminal
    assert terminal.reached() <= {socket.gethostname(), "0.0.0.0"}


@pytest.fixture
def pictures(terminal) -> Path:
    """Pictures that take a while to decode, with captions, and one that is broken."""
    folder = terminal.folder / "PICTURES"
    folder.mkdir()
    stream = io.BytesIO()
    Image.effect_mandelbrot((1600, 1200), (-2, -1, 1, 1), 30).convert("RGB").save(stream, "PNG")
    for i in range(120):
        (folder / f"{i:03}.png").write_bytes(stream.getvalue())
        (folder / f"{i:03}.txt").write_text(list(colours.COLOURS)[i % 5], encoding="utf-8")
    (folder / "050.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ours(terminal) -> dict[int, str]:
    """The processes that descend from this terminal's commands, told by their environment, and what they are."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if str(terminal.record).encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
    return found


def workers(terminal) -> list[int]:
    return [pid for pid, command in ours(terminal).items() if command.startswith("ray::Worker")]


def wait_until(what, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_cluster_gives_the_same_files_though_a_worker_is_killed(terminal, bundle: Path, pictures: Path) -> None:
    words = ("embed", "PICTURES", "--model", bundle, "--shard-size", "4", "--threads", "1")
    terminal.type(*words, "-o", "here", code=3)
    process = terminal.start(*words, "-o", "there", *RAY, "local", "--workers", "2")
    done = terminal.folder / "there" / "embedding" / "done"
    wait_until(lambda: len(list(done.glob("*.json"))) >= 3 and workers(terminal), 120)
    os.kill(workers(terminal)[0], signal.SIGKILL)
    at_kill = len(list(done.glob("*.json")))
    out, err = process.communicate(timeout=200)
    assert process.returncode == 3, f"{out}\n{err}"
    assert "Traceback" not in err
    assert 3 <= at_kill < 30, "killed too late"
    assert content(terminal.folder / "there") == content(terminal.folder / "here")
    wait_until(lambda: not ours(terminal), 30)


def test_what_goes_wrong_is_told_in_a_line(terminal, bundle: Path, pictures: Path) -> None:
    words = ("embed", "PICTURES", "-o", "out", "--model", bundle)
    assert "add --engine ray" in terminal.type(*words, "--address", "auto", code=2).err
    terminal.environment["RAY_TMPDIR"] = str(terminal.folder)  # no cluster of this machine's own
    nowhere = "there is no Ray cluster at auto"
    assert nowhere in terminal.type(*words, *RAY, "auto", code=1).err.splitlines()[-1]
    (terminal.folder / "ray").mkdir()
    (terminal.folder / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")  # one that was killed
    assert nowhere in terminal.type(*words, *RAY, "auto", code=1).err.splitlines()[-1]
    del terminal.environment["RAY_TMPDIR"]
    several = terminal.type(*words, *RAY, "local", "--workers", "1", "--only", "texts")
    assert "120 captions" in several.out
