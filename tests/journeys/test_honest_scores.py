"""Nothing is found where nothing matches: thresholds measured on an index, searches that use them; duplicates."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import colours

pytestmark = [pytest.mark.journey, pytest.mark.long]

INDEX = ("--index", "photos.tuwen")


def paths(ended) -> list[str]:
    return [hit["payload"]["path"] for hit in ended.json["hits"]]


@pytest.fixture(scope="module")
def measured(desk):
    """The index with thresholds: colours that it has, and texts that say nothing of colours."""
    known = [[f"a photo of {c}", *(f"{c}/{c}-{i}.jpg" for i in range(3))] for c in colours.COLOURS]
    known += [[c, f"{c}/{c}-0.jpg"] for c in colours.COLOURS]
    unknown = [["a photo"], ["not a"], ["of of of"], ["a a a"], ["an astrolabe"], ["of a photo"]]
    (desk.folder / "queries.tsv").write_text("".join("\t".join(line) + "\n" for line in [*known, *unknown]))
    words = ("calibrate", *INDEX, "--labelled", "queries.tsv", "--random", 12, "--plot", "scores.png", "--json")
    return desk.type(*words).json


def test_thresholds_are_measured_and_shown(desk, measured) -> None:
    assert (measured["index"], measured["model"]) == ("photos.tuwen", "colours")
    text, image = measured["thresholds"]["text"], measured["thresholds"]["image"]
    assert (text["matching"], text["unmatching"], text["rows"]) == (10, 18, 15)
    assert (image["matching"], image["unmatching"], image["false_accept"]) == (12, 0, None)
    assert 0 <= text["false_accept"] < 0.5 > text["false_reject"] >= 0
    with Image.open(desk.folder / "scores.png") as plot:
        assert min(plot.size) > 300
    info = desk.type("index", "info", *INDEX, "--json").json
    assert info["thresholds"] == {"text": text["threshold"], "image": image["threshold"]}
    assert f"threshold, text   {text['threshold']:.3f}" in desk.type("index", "info", *INDEX).out


def test_a_search_may_find_nothing(desk, measured) -> None:
    auto = (*INDEX, "--min-score", "auto")
    found = desk.type("search", "blue", *auto, "--json")
    assert "blue/blue-0.jpg" in paths(found)
    assert all(hit["score"] >= measured["thresholds"]["text"]["threshold"] for hit in found.json["hits"])
    nothing = desk.type("search", "an astrolabe", *auto)
    assert (nothing.out, nothing.err) == ("", "tuwen: nothing here matches\n")
    assert desk.type("search", "an astrolabe", *auto, "--json").json["hits"] == []
    assert desk.type("search", "an astrolabe", *INDEX, "-k", 1, "--json").json["hits"]


def test_a_table_for_people(desk, measured) -> None:
    shown = desk.type("calibrate", *INDEX, "--labelled", "queries.tsv", "--random", 12).out.splitlines()
    assert shown[0].split() == ["query", "threshold", "false", "accepts", "false", "rejects"]
    assert [line.split()[0] for line in shown[1:]] == ["text", "image"]
    assert shown[2].split()[2:4] == ["not", "measured"]
    again = desk.type("calibrate", *INDEX, "--labelled", "queries.tsv", "--json").json["thresholds"]
    assert again["text"]["unmatching"] == 6
    assert again["image"] == {**measured["thresholds"]["image"], "created": again["image"]["created"]}
    (desk.folder / "photos.tuwen" / "calibration.json").write_text("{}")
    assert "calibration.json" in desk.type("index", "info", *INDEX, code=1).err
    assert "calibration.json" in desk.type("calibrate", *INDEX, "--random", 12).err
    desk.type("index", "info", *INDEX)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("calibrate", *INDEX, "--random", 0), "--random"),
        (("calibrate", *INDEX, "--random", 4), "4 text"),
        (("calibrate", *INDEX, "--plot", "scores.txt"), ".png"),
        (("search", "red", *INDEX, "--min-score", "high"), "'high'"),
        (("search", "red", "--like", "PHOTOS/red/red-0.jpg", *INDEX, "--min-score", "auto"), "auto"),
        (("search", "--compose", "red + - blue", *INDEX), "character 6"),
        (("search", "--like", "id:7", *INDEX), "id:7"),
        (("search", "--unlike", "red", "--strategy", "best", *INDEX), "--unlike"),
        (("index", "duplicates", *INDEX, "--threshold", 2), "--threshold"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(desk, measured, words: tuple, named: str) -> None:
    assert named in desk.type(*words, code=2).err


def test_without_thresholds_auto_says_how(terminal, photos: Path, bundle: Path) -> None:
    terminal.type("index", "build", "PHOTOS/", *INDEX, "--model", bundle)
    ended = terminal.type("search", "red", *INDEX, "--min-score", "auto", code=2)
    assert "tuwen calibrate" in ended.err
    assert terminal.type("index", "info", *INDEX, "--json").json["thresholds"] == {"text": None, "image": None}


def test_examples_by_row_and_in_one_line(desk) -> None:
    rows = {row["payload"]["path"]: row["id"] for row in desk.type("index", "list", *INDEX, "--json").json["rows"]}
    by_id = desk.type("search", "--like", f"id:{rows['green/green-0.jpg']}", *INDEX, "-k", 2, "--json")
    assert paths(by_id) == paths(desk.type("search", "--like", "green/green-0.jpg", *INDEX, "-k", 2, "--json"))
    assert {Path(path).parent.name for path in paths(by_id)} == {"green"}
    assert "green/green-0.jpg" not in paths(by_id)
    composed = desk.type("search", "--compose", "yellow + 0.5 * green - red", *INDEX, "-k", 15, "--json")
    spoken = ("--like", "yellow", "--like", "green:0.5", "--unlike", "red")
    assert composed.json == desk.type("search", *spoken, *INDEX, "-k", 15, "--json").json
    assert composed.json["query"] == "yellow + 0.5 * green - red"
    best = ("--like", "yellow", "--like", "blue", "--strategy", "best")
    both = desk.type("search", *best, *INDEX, "-k", 6, "--json")
    assert sorted({Path(path).parent.name for path in paths(both)}) == ["blue", "yellow"]


def test_near_duplicates_are_folded_and_listed(terminal, photos: Path, bundle: Path) -> None:
    shutil.rmtree(photos / "white")  # these are too much alike
    shutil.copy(photos / "red" / "red-0.jpg", photos / "copy.jpg")
    with Image.open(photos / "blue" / "blue-0.jpg") as blue:
        blue.resize((96, 80)).save(photos / "large.jpg", quality=95)
    terminal.type("index", "build", "PHOTOS/", *INDEX, "--model", bundle)
    folded = terminal.type("search", "red", *INDEX, "-k", 3, "--unique", 0.999, "--json").json["hits"]
    assert [len(hit["similar"]) for hit in folded if hit["payload"]["name"] in {"copy.jpg", "red-0.jpg"}] == [1]
    assert "(+1 similar)" in terminal.type("search", "red", *INDEX, "--unique", 0.999).out
    assert "similar" not in terminal.type("search", "red", *INDEX, "--json").json["hits"][0]
    groups = ("index", "duplicates", *INDEX, "--threshold", 0.999)
    assert terminal.type(*groups).out == "copy.jpg\nred/red-0.jpg\n\nlarge.jpg\nblue/blue-0.jpg\n"
    assert terminal.type(*groups).err == "tuwen: 2 groups of 4 rows\n"
    found = json.loads(terminal.type(*groups, "--json").out)
    assert (found["index"], found["threshold"]) == ("photos.tuwen", 0.999)
    assert [[row["payload"]["path"] for row in group["rows"]] for group in found["groups"]][1] == [
        "large.jpg",
        "blue/blue-0.jpg",
    ]
