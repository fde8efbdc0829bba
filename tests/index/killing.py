"""Processes that write to an index and are killed, and what must be in the index afterwards."""

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
from making import vectors
from writing import KEYS, vector

import tuwen
from tuwen.index.index import VectorIndex

HERE = Path(__file__).parent


def start(*command: object) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(HERE), str(Path(tuwen.__file__).parents[1])))
    environment = {**os.environ, "PYTHONPATH": path}
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

    def check(self, index: VectorIndex) -> None:
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
        with VectorIndex.open(folder, encoder=None, lock_timeout=0) as index:
            expected.check(index)
    assert expected.version > times, "nothing was written: the test proves nothing"


OPTIMIZE = """
import sys
from making import FakeModel
from tuwen.index.index import VectorIndex
with VectorIndex.open(sys.argv[1], encoder=FakeModel(), quantize_above=int(sys.argv[2])) as index:
    print("begins", flush=True)
    index.optimize()
    print("done", flush=True)
"""


def check_all(index: VectorIndex, made: list, chance: random.Random) -> None:
    assert index.info().rows == len(made)
    stored = index.payloads([it.key for it in made])
    assert len(stored) == len(made)
    for it in chance.sample(made, 20):
        assert stored[it.key] == it.payload
        hits = index.search(it.vector, k=5)
        assert hits[0].payload["path"] == it.key
        assert len({hit.id for hit in hits}) == 5
