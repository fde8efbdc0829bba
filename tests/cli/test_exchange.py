"""Vectors brought into an index by a command: what is refused leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Type
from cli.running import run


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.eye(3, dtype=np.float32), "has vectors of 3 numbers; those of colours have 16"),
        (np.full((3, 16), 0.5, np.float32), "the vector of row 0 has the length 2, not 1"),
        (np.eye(16, dtype=np.float32), "has 16 vectors and names.txt has 3 rows"),
    ],
)
def test_what_is_refused_makes_no_index(desk: Type, vectors: np.ndarray, said: str) -> None:
    np.save("v.npy", vectors)
    Path("names.txt").write_text("a\nb\nc\n")
    ended = run("index", "import", "v.npy", "--names", "names.txt", "--index", "i.tuwen", "--model", "model")
    assert ended.exit_code in {1, 2}
    assert said in ended.stderr
    assert not Path("i.tuwen").exists()


def test_the_root_of_an_index_stays(desk: Type) -> None:
    desk("embed", "photos", "-o", "embedded", "--model", "model")
    words = ("index", "import", "embedded", "--index", "i.tuwen", "--model", "model")
    desk(*words, "--root", "photos")
    ended = run(*words, "--root", "photos/red")
    assert ended.exit_code == 2
    assert "i.tuwen" in ended.stderr
    for again in (("--root", "photos"), ()):
        assert desk(*words, *again) == "i.tuwen: 15 rows; 15 imported, 0 rejected\n"


def test_the_kind_of_a_new_index(desk: Type) -> None:
    desk("embed", "photos", "-o", "embedded", "--model", "model")
    desk("index", "import", "embedded", "--index", "i.tuwen", "--model", "model", "--kind", "flat", "--metric", "l2")
    found = json.loads(desk("index", "info", "--index", "i.tuwen", "--json"))
    assert (found["kind"], found["metric"], found["rows"]) == ("flat", "l2", 15)
