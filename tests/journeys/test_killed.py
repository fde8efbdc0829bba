"""Killed at any moment and run again, a build ends with exactly the rows of one that nobody disturbed."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tuwen.index.index import Index

import colours

pytestmark = pytest.mark.journey


def rows(folder: Path) -> dict[str, tuple[dict[str, object], np.ndarray]]:
    """Key -> payload and vector, of everything in an index."""
    with Index.open(folder, encoder=None) as index:
        payloads = {str(row.payload["path"]): dict(row.payload) for row in index.list()}
        vectors = index.vectors_of(sorted({str(payload["content"]) for payload in payloads.values()}))
    return {key: (payload, vectors[str(payload["content"])]) for key, payload in payloads.items()}


def kill_after(process, lines: int, seconds: float) -> int:
    """Let a build report so many batches and go on for so long, then kill it; the rows that it has acknowledged."""
    committed = 0
    for _ in range(lines):
        line = process.stderr.readline()
        if not line:
            break
        committed = json.loads(line)["committed"]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    return max([committed, *(json.loads(line)["committed"] for line in err.splitlines() if line.endswith("}"))])


def check(terminal, bundle: Path, kills: int, seed: int) -> None:
    photos = colours.make_photos(terminal.folder / "PHOTOS", count=60)
    for i in range(40):  # the same content at other paths, all over the order
        colours.picture("white", seed=i % 7, size=(640, 480)).save(photos / f"{'abyz'[i % 4]}-{i}.png")
    (photos / "m.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    words = ("index", "build", "PHOTOS", "--model", bundle, "--progress", "json", "--json", "--index")
    undisturbed = terminal.type(*words, "undisturbed.tuwen", code=3).json
    assert undisturbed["indexed"] == 60 * len(colours.COLOURS) + 40

    chance = random.Random(seed)
    for _ in range(kills):
        process = terminal.start(*words, "killed.tuwen")
        committed = kill_after(
            process, chance.randrange(4), chance.choice([0.0, chance.random() * 2.5, chance.random() / 20])
        )
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
    check(terminal, bundle, kills=6, seed=int(time.time()) % 1000)


@pytest.mark.long
def test_a_build_killed_forty_times_goes_on(terminal, bundle: Path) -> None:
    check(terminal, bundle, kills=40, seed=1)
