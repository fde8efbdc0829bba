"""Photos into an index, and found again: by text, by picture, by both; in other scripts; through filters."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import colours

pytestmark = pytest.mark.journey

COUNT = 3 * len(colours.COLOURS)


INDEX = ("--index", "photos.tuwen")


def paths(ended) -> list[str]:
    return [hit["payload"]["path"] for hit in ended.json["hits"]]


def test_build_says_what_it_did(terminal, photos: Path, bundle: Path) -> None:
    line = terminal.type("index", "build", "PHOTOS/", "--index", "photos.tuwen", "--model", bundle).out
    assert line.startswith(f"photos.tuwen: {COUNT} rows; {COUNT} indexed, 1 skipped; ")
    again = terminal.type("index", "build", "PHOTOS", "--index", "photos.tuwen", "--json").json
    assert again.pop("seconds") > 0
    assert again == {
        "index": "photos.tuwen",
        "indexed": 0,
        "unchanged": COUNT,
        "replaced": 0,
        "removed": 0,
        "skipped": 1,
        "rejected": [],
    }


@pytest.mark.parametrize(("query", "colour"), [("a photo of red", "red"), ("蓝", "blue"), ("grün", "green")])
def test_search_by_text(desk, query: str, colour: str) -> None:
    found = desk.type("search", query, *INDEX, "-k", 3, "--json")
    assert {Path(path).parent.name for path in paths(found)} == {colour}
    assert found.json["query"] == query
    assert found.json["model"] == "colours"
    assert set(found.json) == {"query", "model", "hits"}
    scores = [hit["score"] for hit in found.json["hits"]]
    assert scores == sorted(scores, reverse=True)
    for hit in found.json["hits"]:
        assert set(hit) == {"id", "score", "payload"}
        assert (hit["payload"]["width"], hit["payload"]["height"]) == (48, 40)
    assert found.err == ""


def test_search_by_picture_finds_itself_first(desk) -> None:
    found = desk.look("search", "--image", "PHOTOS/green/green-1.jpg", *INDEX, "--json")
    assert found.json["hits"][0]["payload"]["path"] == "green/green-1.jpg"
    assert found.json["hits"][0]["score"] == pytest.approx(1.0, abs=1e-3)


def test_search_by_what_is_liked_and_not(desk) -> None:
    shutil.copy(Path(desk.folder) / "PHOTOS" / "yellow" / "yellow-0.jpg", Path(desk.folder) / "like.jpg")
    words = ("search", "--like", "yellow", "--like", "like.jpg:0.5", *INDEX, "-k", 3, "--json")
    found = desk.look(*words)
    assert found.json["query"] == "yellow + 0.5 * like.jpg"
    assert {Path(path).parent.name for path in paths(found)} == {"yellow"}
    turned = desk.look(*words, "--unlike", "green", "--unlike", "like.jpg:1.5")
    assert not {Path(path).parent.name for path in paths(turned)} & {"yellow", "green"}


def test_a_picture_that_is_not_there_is_told(desk) -> None:
    found = desk.look("search", "red.jpg", "--like", "gone.jpg:0.5", "--like", "gone.jpg:-0.5", *INDEX)
    assert "gone.jpg:-0.5 is neither a file nor a row" in found.err
    assert "gone.jpg is neither a file nor a row" in found.err
    assert "red.jpg is" not in found.err, "the query is taken as it is"


def test_search_prints_a_table(desk) -> None:
    lines = desk.look("search", "red", *INDEX, "-k", 2).out.splitlines()
    assert lines[0].split() == ["rank", "score", "size", "path"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert all(line.split()[2] == "48×40" and line.split()[3].startswith("red/") for line in lines[1:])


def test_search_narrows_down(desk) -> None:
    where = 'folder == "blue" and width >= 48'
    assert len(paths(desk.look("search", "red", *INDEX, "-k", 99, "--where", where, "--json"))) == 3
    good = desk.look("search", "red", *INDEX, "-k", 99, "--min-score", "0.5", "--json")
    assert {Path(path).parent.name for path in paths(good)} == {"red"}
    assert desk.look("search", "red", *INDEX, "--where", "width > 9999").err == "tuwen: nothing found\n"
    exact = desk.look("search", "red", *INDEX, "--exact", "--json")
    assert paths(exact) == paths(desk.look("search", "red", *INDEX, "--json"))


def test_hits_are_copied_linked_and_written_as_csv(desk) -> None:
    ended = desk.look(
        "search", "red", *INDEX, "-k", 12, "--copy-to", "copies", "--symlink-to", "links", "--csv", "红.csv", "--json"
    )
    hits = ended.json["hits"]
    names = [f"{rank:02}-{hit['payload']['name']}" for rank, hit in enumerate(hits, start=1)]
    for folder in ("copies", "links"):
        assert sorted(path.name for path in (desk.folder / folder).iterdir()) == names
    original = desk.folder / "PHOTOS" / hits[0]["payload"]["path"]
    assert (desk.folder / "copies" / names[0]).read_bytes() == original.read_bytes()
    assert (desk.folder / "links" / names[0]).resolve() == original.resolve()
    assert not (desk.folder / "copies" / names[0]).is_symlink()
    with (desk.folder / "红.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [hit["payload"]["path"] for hit in hits]
    assert [int(row["rank"]) for row in rows] == list(range(1, 13))
    assert "copies" in desk.look("search", "red", *INDEX, "--copy-to", "copies", code=2).err


def test_search_draws_a_sheet(desk) -> None:
    ended = desk.look("search", "red", *INDEX, "-k", 4, "--sheet", "红.png")
    assert ended.err == "tuwen: sheet: 红.png\n"
    with Image.open(desk.folder / "红.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > sheet.height
    desk.look("search", "red", *INDEX, "-k", 4, "--sheet", "hits.webp")
    with Image.open(desk.folder / "hits.webp") as sheet:
        assert sheet.format == "WEBP"


def test_a_query_in_a_script_the_model_does_not_know_is_noted(desk) -> None:
    ended = desk.look("search", "собака", *INDEX, "--json")
    assert ended.err.count("\n") == 1
    assert "Cyrillic" in ended.err
    assert len(paths(ended)) == 10
    long = desk.look("search", "red " * 40, *INDEX, "--json")
    assert "tokens" in long.err


def test_add_and_remove(terminal, photos: Path, bundle: Path) -> None:
    terminal.type("index", "build", "PHOTOS/", *INDEX, "--model", bundle)
    colours.make_photos(terminal.folder / "更多 фото", count=1)
    added = terminal.type("index", "add", "更多 фото", "PHOTOS/red/red-0.jpg", *INDEX, "--json").json
    assert (added["indexed"], added["unchanged"]) == (len(colours.COLOURS), 1)
    listed = terminal.look("index", "list", *INDEX).out.splitlines()
    outside = str(terminal.folder / "更多 фото" / "red" / "red-0.jpg")
    assert len(listed) == COUNT + len(colours.COLOURS)
    assert {outside, "red/red-0.jpg"} <= set(listed)

    removed = terminal.type("index", "remove", "red/red-0.jpg", "PHOTOS/green", "更多 фото/", *INDEX, "--json")
    assert removed.json["removed"] == 1 + 3 + len(colours.COLOURS)
    left = terminal.look("index", "list", *INDEX).out.splitlines()
    assert set(left) == {
        path for path in listed if path.startswith(("red/red-1", "red/red-2", "blue", "yellow", "white"))
    }
    gone = terminal.type("index", "remove", "nowhere.jpg", "blue", *INDEX, "--json", code=3)
    assert gone.json["removed"] == 3
    assert [item["path"] for item in gone.json["rejected"]] == ["nowhere.jpg"]
    assert "rejected: nowhere.jpg: " in gone.err
    all_gone = terminal.type("index", "remove", "PHOTOS", *INDEX, "--json")
    assert terminal.look("index", "info", *INDEX, "--json").json["rows"] == 0
    assert all_gone.json["removed"] == len(left) - 3


def test_info_and_list(desk) -> None:
    info = desk.look("index", "info", *INDEX, "--json").json
    always = {"index", "rows", "dim", "metric", "kind", "store", "searched", "model", "fingerprint", "bytes"}
    assert set(info) == always | {"notes", "thresholds", "left_out"}
    assert (info["index"], info["rows"], info["dim"], info["model"]) == (
        "photos.tuwen",
        COUNT,
        colours.DIM,
        "colours",
    )
    assert info["metric"] == "cosine"
    assert info["bytes"] > 0
    assert "fingerprint" in desk.look("index", "info", *INDEX).out
    rows = desk.look("index", "list", *INDEX, "--where", 'folder == "red"', "--json").json["rows"]
    assert [row["payload"]["path"] for row in rows] == [f"red/red-{i}.jpg" for i in range(3)]
    assert all(set(row) == {"id", "payload"} for row in rows)


def test_an_index_may_be_set_once(desk) -> None:
    desk.environment["TUWEN_INDEX"] = "photos.tuwen"
    try:
        assert desk.look("index", "info", "--json").json["rows"] == COUNT
        assert len(paths(desk.look("search", "red", "--json"))) == 10
    finally:
        del desk.environment["TUWEN_INDEX"]


def test_names_in_any_script(terminal, bundle: Path) -> None:
    names = (
        "猫 在 草地上.png",
        "кошка.jpg",
        "قطة.webp",
        "बिल्ली.bmp",
        "새 📷.jpg",
        "a\nb.png",
        "'; --help.png",
        "%41.png",
    )
    folder = terminal.folder / "照片 📁"
    folder.mkdir()
    for place, name in enumerate(names):
        colours.picture("red", seed=place).save(folder / name)
    built = terminal.type("index", "build", folder, "--index", "照片.tuwen", "--model", bundle, "--json").json
    assert (built["indexed"], built["rejected"]) == (len(names), [])
    found = terminal.type("search", "红", "--index", "照片.tuwen", "-k", 20, "--json")
    assert set(paths(found)) == set(names)
    listed = terminal.type("index", "list", "--index", "照片.tuwen").out.splitlines()
    assert set(listed) == {name.replace("\n", "\\n") for name in names}
    assert (
        terminal.type("index", "remove", folder / "кошка.jpg", "--index", "照片.tuwen", "--json").json["removed"] == 1
    )


def test_names_that_are_not_utf8(terminal, bundle: Path) -> None:
    folder = terminal.folder / os.fsdecode(b"d\xe9")
    folder.mkdir()
    file = folder / os.fsdecode(b"caf\xe9.png")
    colours.picture("red").save(file)
    terminal.type("index", "build", ".", "--index", "x", "--model", bundle)
    assert terminal.type("index", "list", "--index", "x").out == "d%E9/caf%E9.png\n"
    assert terminal.type("search", "red", "--index", "x", "--sheet", "x.png", "--json").json["hits"]
    found = terminal.type("search", "--image", file, "--index", "x", "--json")
    assert paths(found) == ["d%E9/caf%E9.png"]
    assert terminal.type("index", "remove", folder, "--index", "x", "--json").json["removed"] == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gb18030:strict"])
def test_json_is_whole_in_any_encoding(desk, encoding: str) -> None:
    desk.environment["PYTHONIOENCODING"] = encoding
    try:
        command = desk.command("search", "红 😀", *INDEX, "--json")
        done = subprocess.run(command, cwd=desk.folder, env=desk.environment, capture_output=True, check=True)
    finally:
        del desk.environment["PYTHONIOENCODING"]
    assert json.loads(done.stdout.decode(encoding.split(":", maxsplit=1)[0]))["query"] == "红 😀"
