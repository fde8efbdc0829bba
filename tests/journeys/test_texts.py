"""Texts beside pictures: indexed, found by texts and by pictures, killed and gone on with."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from journeys.test_killed import rows

pytestmark = [pytest.mark.journey, pytest.mark.long]

INDEX = ("--index", "both.tuwen")
CAPTIONS = ["a photo of red", "a photo of green", "a photo of blue", "white"]


@pytest.fixture
def both(terminal, photos: Path, bundle: Path):
    """A terminal with an index of fifteen pictures and four texts."""
    terminal.type("index", "build", "PHOTOS", *INDEX, "--model", bundle)
    (terminal.folder / "captions.csv").write_text(
        "id,caption\n" + "".join(f"c{i},{text}\n" for i, text in enumerate(CAPTIONS)), encoding="utf-8"
    )
    ended = terminal.type("index", "add", "captions.csv", "--texts", *INDEX, "--json").json
    assert (ended["indexed"], ended["rejected"]) == (4, [])
    return terminal


def found(terminal, *words: object) -> list[str]:
    """What the best hits are: texts, or folders of pictures."""
    hits = terminal.type("search", *words, *INDEX, "--json", "-k", "3").json["hits"]
    return [hit["payload"].get("text", hit["payload"]["folder"]) for hit in hits]


def test_texts_and_pictures_find_each_other(both) -> None:
    texts, pictures = ("--where", 'type == "text"'), ("--where", 'type == "image"')
    assert found(both, "red", *texts)[0] == "a photo of red"
    assert found(both, "red", *pictures) == ["red"] * 3
    assert found(both, "--image", "PHOTOS/green/green-0.jpg", *texts)[0] == "a photo of green"
    assert found(both, "--image", "PHOTOS/green/green-0.jpg", *pictures) == ["green"] * 3
    listed = both.type("index", "list", *INDEX, *texts).out.splitlines()
    assert listed == [f"{both.folder}/captions.csv/c{i}" for i in range(4)]
    assert both.type("index", "remove", "captions.csv", *INDEX, "--json").json["removed"] == 4


def test_people_see_what_a_text_says(both) -> None:
    shown = both.type("search", "red", *INDEX, "--where", 'text contains "red"', "--sheet", "sheet.png")
    assert "a photo of red" in shown.out
    assert "captions.csv/c0" in shown.out.replace("\n", "").replace(" ", "")
    assert "×" not in shown.out
    assert len(shown.err.splitlines()) == 1, "no sheet is written"
    assert not (both.folder / "sheet.png").exists()
    both.type("search", "red", *INDEX, "-k", 19, "--sheet", "sheet.png")
    assert (both.folder / "sheet.png").exists()


def test_an_index_of_texts_alone(terminal, bundle: Path) -> None:
    (terminal.folder / "lines.txt").write_bytes(b"red\n\nblue\ncaf\xe9\n")
    words = ("index", "build", "lines.txt", "--texts", "--index", "texts.tuwen", "--model", bundle)
    ended = terminal.type(*words, code=3)
    assert ended.out.startswith("texts.tuwen: 2 rows; 2 indexed, 1 skipped, 1 rejected; ")
    assert ended.err == "tuwen: rejected: lines.txt: line 4 is not UTF-8\n"
    assert terminal.type(*words, "--json", code=3).json["unchanged"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("build", "lines.txt"), "--texts"),
        (("build", ".", "--texts"), "--texts"),
        (("build", "lines.txt", "--text-column", "a"), "add --texts"),
        (("build", "lines.txt", "--texts", "--text-column", "a", "--model", "demo"), "has no columns"),
    ],
)
def test_wrong_usage(terminal, words: tuple[str, ...], message: str) -> None:
    (terminal.folder / "lines.txt").write_text("red\n", encoding="utf-8")
    ended = terminal.type("index", *words, "--index", "i.tuwen", code=2)
    assert message in " ".join(ended.err.split())


def test_a_killed_build_of_texts_goes_on(terminal, bundle: Path) -> None:
    lines = "".join(f"red {'blue ' * (i % 9)}{'green ' * (i % 7)}{i}\n" for i in range(1500))
    (terminal.folder / "lines.txt").write_text(lines, encoding="utf-8")
    words = ("index", "build", "lines.txt", "--texts", "--model", bundle, "--progress", "json", "--json", "--index")
    assert terminal.type(*words, "undisturbed.tuwen").json["indexed"] == 1500
    for wait in (0, 2):
        process = terminal.start(*words, "killed.tuwen")
        for _ in range(wait):
            process.stderr.readline()
        time.sleep(wait / 50)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = terminal.start(*words, "killed.tuwen")
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode in (0, 130)
    assert terminal.type(*words, "killed.tuwen").json["unchanged"] > 0
    expected, killed = rows(terminal.folder / "undisturbed.tuwen"), rows(terminal.folder / "killed.tuwen")
    assert list(killed) == list(expected)
    assert len(killed) == 1500
    for key, (payload, vector) in expected.items():
        assert killed[key][0] == payload
        np.testing.assert_allclose(killed[key][1], vector, atol=1e-6)
