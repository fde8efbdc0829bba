"""Killed at any moment and run again, a build ends with exactly the rows of one that nobody disturbed."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import colours
from tuwen.index.index import VectorIndex

pytestmark = [pytest.mark.journey, pytest.mark.long]


def rows(folder: Path) -> dict[str, tuple[dict[str, object], np.ndarray]]:
    """Key -> payload and vector, of everything in an index."""
    with VectorIndex.open(folder, encoder=None) as index:
        payloads = {str(row.payload["path"]): dict(row.payload) for row in index.list()}
        vectors = index.vectors_of(sorted({str(payload["content"]) for payload in payloads.values()}))
    return {key: (payload, vectors[str(payload["content"])]) for key, payload in payloads.items()}


def kill_after(process, lines: int, seconds: float) -> int:
    """Let a build say so many lines and go on for so long, then kill it; the rows that it has acknowledged."""
    printed = [process.stderr.readline() for _ in range(lines)]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    _, rest = process.communicate()
    lines_of_progress = [line for line in [*printed, *rest.splitlines()] if line.startswith('{"committed"')]
    return max([json.loads(line)["committed"] for line in lines_of_progress], default=0)


def check(terminal, bundle: Path, count: int, kills: int, seed: int) -> None:
    photos = colours.make_photos(terminal.folder / "PHOTOS", count=count)
    for i in range(40):  # the same content at other paths, all over the order
        colours.picture("white", seed=i % 7, size=(640, 480)).save(photos / f"{'abyz'[i % 4]}-{i}.png")
    (photos / "m.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    words = ("index", "build", "PHOTOS", "--model", bundle, "--progress", "json", "--json", "--index")
    undisturbed = terminal.type(*words, "undisturbed.tuwen", code=3).json
    assert undisturbed["indexed"] == count * len(colours.COLOURS) + 40

    chance = random.Random(seed)
    for _ in range(kills):
        process = terminal.start(*words, "killed.tuwen")
        seconds = chance.choice([0.0, chance.random() / 20, chance.random() * 2.5])
        committed = kill_after(process, chance.randrange(4), seconds)
        if committed:
            info = terminal.type("index", "info", "--index", "killed.tuwen", "--json").json
            assert info["rows"] >= committed, "acknowledged rows were lost"
    ended = terminal.type(*words, "killed.tuwen", code=3).json
    assert ended["indexed"] + ended["unchanged"] == undisturbed["indexed"]
    assert ended["rejected"] == undisturbed["rejected"]

    expected, found = rows(terminal.folder / "undisturbed.tuwen"), rows(terminal.folder / "killed.tuwen")
    assert list(found) == list(expected)
    for key, (payload, vector) in expected.items():
        assert found[key][0] == payload
        np.testing.assert_allclose(found[key][1], vector, atol=1e-6)


def test_a_killed_build_goes_on(terminal, bundle: Path) -> None:
    check(terminal, bundle, count=160, kills=4, seed=7)


def test_a_build_killed_forty_times_goes_on(terminal, bundle: Path) -> None:
    check(terminal, bundle, count=2000, kills=40, seed=1)
