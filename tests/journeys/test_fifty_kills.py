"""Kills at random moments of whatever changes an index: no acknowledged row lost, none twice, each index opens."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

import colours
from journeys.test_killed import rows
from journeys.test_sync import churn, names
from tuwen.index.index import VectorIndex

pytestmark = [pytest.mark.journey, pytest.mark.long, pytest.mark.timeout(1800)]

KILLS = 50
COUNT = 500
"""pictures of each colour: enough for FAISS to build its file, and to compact it"""


def kept(folder: Path) -> list[str]:
    """The keys of an index, in order; it must open, and have each row once."""
    with VectorIndex.open(folder, encoder=None) as index:
        keys = [str(row.payload["path"]) for row in index.list()]
        assert len(keys) == len(set(keys)) == index.info().rows
    return keys


def killed(terminal, within: float, *words: object) -> int:
    """Start a command and kill it after so many seconds; how many rows it said there were."""
    with terminal.start(*words) as process:
        time.sleep(within)
        process.send_signal(signal.SIGKILL)
        _, printed = process.communicate()
    lines = [
        json.loads(line) for line in printed.splitlines() if line.startswith('{"committed"') and line.endswith("}")
    ]
    return max((line["committed"] for line in lines), default=0)


@pytest.mark.parametrize("store", ["qdrant-edge", "faiss"])
def test_fifty_kills(terminal, bundle: Path, store: str) -> None:
    photos = colours.make_photos(terminal.folder / "PHOTOS", count=COUNT)
    chance, index = random.Random(11), terminal.folder / "photos.tuwen"
    shown = ("--index", "photos.tuwen", "--progress", "json")
    new = ("--model", bundle, "--store", store)
    start = time.monotonic()
    terminal.type("index", "build", "PHOTOS", "--index", "whole.tuwen", *new)
    whole = time.monotonic() - start
    for turn in range(KILLS):
        moment = whole * 1.2 * chance.random()
        before = set(kept(index)) if index.exists() else set()
        match chance.choice(["build", "add", "remove", "sync"] if before else ["build"]):
            case "build":
                committed = killed(terminal, moment, "index", "build", "PHOTOS", *shown, *new)
                assert not before or before <= set(kept(index))
                assert not committed or len(kept(index)) >= committed
            case "add":
                committed = killed(terminal, moment, "index", "add", "PHOTOS/green", "PHOTOS/blue", *shown)
                assert before <= set(kept(index))
                assert len(kept(index)) >= committed
            case "remove":
                gone = set(chance.sample(sorted(before), k=min(len(before), 400)))
                killed(terminal, moment, "index", "remove", *sorted(gone), "--index", "photos.tuwen")
                assert before - gone <= set(kept(index)) <= before
            case "sync":
                churn(photos, chance, turn)
                killed(terminal, moment, "index", "sync", "PHOTOS", "--yes", *shown)
                assert before & names(photos) <= set(kept(index)) <= before | names(photos)
    assert before, "every command was killed before it began: nothing was tried"
    terminal.type("index", "sync", "PHOTOS", "--yes", *shown)
    terminal.type("index", "build", "PHOTOS", "--index", "undisturbed.tuwen", *new)
    found, expected = rows(index), rows(terminal.folder / "undisturbed.tuwen")
    assert set(found) == names(photos) == set(expected)
    assert all(found[key][0] == payload for key, (payload, _) in expected.items())
