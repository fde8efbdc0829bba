"""Real processes, killed at random: every index opens again, no acknowledged row is lost, none is there twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from making import FakeModel, rows, vectors
from writing import KEYS, vector

from conftest import copied
from tuwen.errors import IndexNotFound
from tuwen.index.index import Index
from tuwen.index.qdrant_shard import GRAPH_ABOVE

HERE = Path(__file__).parent


def start(*command: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE
    )


def killed(process: subprocess.Popen[str], lines: int, seconds: float) -> list[str]:
    """What a process said before it was killed, some time after it said its first lines."""
    first = [process.stdout.readline() for _ in range(lines)]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return [*first, *process.communicate()[0].splitlines(keepends=True)]


class Expected:
    """What each row may be: what was confirmed last, or what a step that was cut off would have made of it."""

    def __init__(self) -> None:
        self.states: dict[str, set[tuple[int, int] | None]] = {f"{key}": {None} for key in range(KEYS)}
        self.version = 1

    def learn(self, lines: Sequence[str]) -> None:
        for line, following in zip(lines, [*lines[1:], None], strict=True):
            if not line.endswith("}\n"):
                continue
            does = json.loads(line)
            self.version = does["version"] + 1
            for key in does["keys"]:
                after = {self.after(does, state) for state in self.states[key]}
                self.states[key] = after if following == "\n" else after | self.states[key]

    def after(self, does: dict, state: tuple[int, int] | None) -> tuple[int, int] | None:
        """(version, moved) of a row, None where there is none."""
        match does["does"]:
            case "upsert":
                return does["version"], 0
            case "move":
                return state and (state[0], does["version"])
            case "remove":
                return None
            case _:
                return state

    def check(self, index: Index) -> None:
        listed = list(index.list())
        assert len({row.id for row in listed}) == len(listed) == index.info().rows, "a row is there twice"
        found = {str(row.payload["path"]): row.payload for row in listed}
        for key, states in self.states.items():
            state = (found[key]["version"], found[key]["moved"]) if key in found else None
            assert state in states, f"{key} is {state}, not {states}"
            self.states[key] = {state}
        for key, vec in index.vectors_of([str(it["content"]) for it in found.values()]).items():
            row = found[key.removeprefix("sha of ")]
            np.testing.assert_allclose(vec, vector(str(row["path"]), int(row["version"])), atol=1e-6)
        for folder in range(5):
            wanted = sorted(key for key, payload in found.items() if payload["folder"] == f"{folder}")
            assert [it.payload["path"] for it in index.list(f'folder == "{folder}"')] == wanted
        assert len(index.search(vectors(1)[0], k=KEYS)) == len(found)


def kill_writers(folder: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    expected = Expected()
    for _ in range(times):
        process = start("writing.py", folder, chance.random(), expected.version)
        expected.learn(killed(process, chance.randrange(1, 20), chance.random() * chance.choice((0.0, 0.02, 0.3))))
        with Index.open(folder, encoder=None, lock_timeout=0) as index:
            expected.check(index)
    assert expected.version > times, "nothing was written: the test proves nothing"


def test_writers_are_killed(folder: Path) -> None:
    kill_writers(folder, times=6, seed=time.time_ns())


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_hundred_writers_are_killed(empty: Path, tmp_path: Path) -> None:
    kill_writers(copied(empty, tmp_path / "photos.tuwen"), times=100, seed=5)


OPTIMIZE = """
import sys
from making import FakeModel
from tuwen.index.index import Index
with Index.open(sys.argv[1], encoder=FakeModel(), quantize_above=int(sys.argv[2])) as index:
    print("begins", flush=True)
    index.optimize()
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def unbuilt(empty: Path, memory: Path) -> Path:
    """An index of so many rows that a graph is worth it, and has not been built."""
    folder = copied(empty, memory / "unbuilt.tuwen")
    with Index.open(folder, encoder=FakeModel()) as index:
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
        with Index.open(folder, encoder=FakeModel(), lock_timeout=5) as index:
            check_all(index, made, chance)
    assert unfinished, "none was killed while it built: the test proves nothing"
    with Index.open(folder, encoder=FakeModel(), quantize_above=1_000) as index:
        index.optimize()
        check_all(index, made, chance)
    assert list((folder / "shard" / "temp_segments").iterdir()) == []


def check_all(index: Index, made: list, chance: random.Random) -> None:
    assert index.info().rows == len(made)
    stored = index.payloads([it.key for it in made])
    assert len(stored) == len(made)
    for it in chance.sample(made, 20):
        assert stored[it.key] == it.payload
        hits = index.search(it.vector, k=5)
        assert hits[0].payload["path"] == it.key
        assert len({hit.id for hit in hits}) == 5


def test_builders_are_killed(unbuilt: Path, place: Path) -> None:
    kill_builders(copied(unbuilt, place / "killed.tuwen"), times=3, seed=time.time_ns())


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

    with Index.open(copied(unbuilt, place / "interrupted.tuwen"), encoder=FakeModel()) as index:
        monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.optimize()
        assert index.info().rows == GRAPH_ABOVE + 1
    assert builders[0].returncode == -signal.SIGKILL


CREATE = """
import sys
from making import FakeModel
from tuwen.index.index import Index
import qdrant_edge
print("begins", flush=True)
Index.create(sys.argv[1], encoder=FakeModel()).close()
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
            index = Index.open(folder, encoder=FakeModel())
            outcomes.add("whole")
        except IndexNotFound:
            assert not folder.exists()
            index = Index.create(folder, encoder=FakeModel())
            outcomes.add("none")
        with index:
            index.upsert(rows(10))
            assert [it.payload["path"] for it in index.list('folder == "3"')] == ["3/3.jpg"]
    assert "none" in outcomes, "all were ready before they were killed: the test proves nothing"


def test_creators_are_killed(place: Path) -> None:
    kill_creators(place, times=4, seed=time.time_ns())


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_forty_creators_are_killed(tmp_path: Path) -> None:
    kill_creators(tmp_path, times=40, seed=7)
