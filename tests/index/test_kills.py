"""Real processes, killed at random: every index opens again, no acknowledged row is lost, none is there twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import OPTIMIZE, check_all, kill_writers, killed, start
from making import FakeModel, rows

from conftest import copied
from tuwen.errors import IndexNotFound
from tuwen.index.index import VectorIndex
from tuwen.index.stores.qdrant_edge_shard import GRAPH_ABOVE


def test_writers_are_killed(folder: Path) -> None:
    kill_writers(folder, times=6, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_hundred_writers_are_killed(empty: Path, tmp_path: Path) -> None:
    kill_writers(copied(empty, tmp_path / "photos.tuwen"), times=100, seed=5)


@pytest.fixture(scope="module")
def unbuilt(empty: Path, memory: Path) -> Path:
    """An index of so many rows that a graph is worth it, and has not been built."""
    folder = copied(empty, memory / "unbuilt.tuwen")
    with VectorIndex.open(folder, encoder=FakeModel()) as index:
        index.upsert(rows(GRAPH_ABOVE + 1))
    return folder


def stat(pid: str) -> list[str]:
    """State and parent of a process, and what follows; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(pid: int) -> list[str]:
    running = (path.name for path in Path("/proc").iterdir() if path.name.isdigit())
    return [child for child in running if stat(child)[1:2] == [str(pid)]]


def kill_builders(folder: Path, times: int, seed: int) -> None:
    """Kill the one that asked, while another process builds for it; in turns with int8 and without."""
    chance = random.Random(seed)
    made = rows(GRAPH_ABOVE + 1)
    unfinished = 0
    for attempt in range(times):
        quantize_above = 10**9 if attempt < times // 2 else 1_000
        lines = killed(start("-c", OPTIMIZE, folder, quantize_above), 1, chance.random() * 2.5)
        unfinished += "done\n" not in lines
        with VectorIndex.open(folder, encoder=FakeModel(), lock_timeout=5) as index:
            check_all(index, made, chance)
    assert unfinished, "none was killed while it built: the test proves nothing"
    with VectorIndex.open(folder, encoder=FakeModel(), quantize_above=1_000) as index:
        index.optimize()
        check_all(index, made, chance)
    assert list((folder / "shard" / "temp_segments").iterdir()) == []


@pytest.mark.long
def test_builders_are_killed(unbuilt: Path, place: Path) -> None:
    kill_builders(copied(unbuilt, place / "killed.tuwen"), times=3, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_thirty_builders_are_killed(unbuilt: Path, tmp_path: Path) -> None:
    kill_builders(copied(unbuilt, tmp_path / "photos.tuwen"), times=30, seed=6)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a builder finishes what it has begun")
def test_a_builder_ends_with_the_one_that_asked(unbuilt: Path, place: Path) -> None:
    process = start("-c", OPTIMIZE, copied(unbuilt, place / "left.tuwen"), 10**9)
    process.stdout.readline()
    deadline = time.monotonic() + 20
    while not (builders := children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert builders
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while stat(builders[0])[:1] not in ([], ["Z"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stat(builders[0])[:1] in ([], ["Z"])


def test_an_interrupted_build_leaves_the_index_open(
    unbuilt: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: the builder is ended at once, and the index can be asked how much it holds."""
    waiting = subprocess.Popen.communicate
    builders = []

    def interrupted(process, *words, **named):
        builders.append(process)
        monkeypatch.setattr(subprocess.Popen, "communicate", waiting)
        raise KeyboardInterrupt

    with VectorIndex.open(copied(unbuilt, place / "interrupted.tuwen"), encoder=FakeModel()) as index:
        monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.optimize()
        assert index.info().rows == GRAPH_ABOVE + 1
    assert builders[0].returncode == -signal.SIGKILL


CREATE = """
import sys
from making import FakeModel
from tuwen.index.index import VectorIndex
import qdrant_edge
print("begins", flush=True)
VectorIndex.create(sys.argv[1], encoder=FakeModel()).close()
print("done", flush=True)
"""


def kill_creators(place: Path, times: int, seed: int) -> None:
    """At random moments; then at once, as often as it takes until one was not ready."""
    chance = random.Random(seed)
    delays = [chance.random() * chance.choice((0.05, 0.3, 2.0)) for _ in range(times)] + [0.0] * 40
    outcomes = set()
    for attempt, delay in enumerate(delays):
        if attempt >= times and "none" in outcomes:
            break
        folder = place / f"{attempt}.tuwen"
        killed(start("-c", CREATE, folder), 1, delay)
        try:
            index = VectorIndex.open(folder, encoder=FakeModel())
            outcomes.add("whole")
        except IndexNotFound:
            assert not folder.exists()
            index = VectorIndex.create(folder, encoder=FakeModel())
            outcomes.add("none")
        with index:
            index.upsert(rows(10))
            assert [it.payload["path"] for it in index.list('folder == "3"')] == ["3/3.jpg"]
    assert "none" in outcomes, "all were ready before they were killed: the test proves nothing"


def test_creators_are_killed(place: Path) -> None:
    kill_creators(place, times=4, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_forty_creators_are_killed(tmp_path: Path) -> None:
    kill_creators(tmp_path, times=40, seed=7)
