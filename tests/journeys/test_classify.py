"""Pictures and labels, as a person types them."""

import json
from pathlib import Path

import pytest

import colours

pytestmark = pytest.mark.journey


def test_one_picture(terminal, photos: Path, bundle: Path) -> None:
    words = ("classify", "PHOTOS/blue/blue-0.jpg", "--labels", "red，green, 蓝", "--model", bundle)
    found = terminal.type(*words, "--template", "a photo of a _", "--json").json
    assert set(found) == {"model", "images", "rejected"}
    assert (found["model"], found["rejected"]) == ("colours", [])
    (image,) = found["images"]
    assert image["path"] == "blue-0.jpg"
    assert image["labels"][0]["label"] == "蓝"
    assert all(set(label) == {"label", "probability", "cosine"} for label in image["labels"])
    assert sum(label["probability"] for label in image["labels"]) == pytest.approx(1.0)
    lines = terminal.type(*words).out.splitlines()
    assert lines[0].split() == ["probability", "cosine", "label"]
    assert lines[1].split()[-1] == "蓝"


def test_a_folder_and_a_file_of_labels(terminal, photos: Path, bundle: Path) -> None:
    (terminal.folder / "标签.txt").write_text("﻿红\n绿\n\n蓝\n", encoding="utf-8")
    (photos / "blue" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    ended = terminal.type(
        *("classify", "PHOTOS/", "--label-file", "标签.txt", "--template", "一张_的照片", "--template", "_"),
        *("-o", "res.json", "--warmup", "PHOTOS/red/red-0.jpg", "--model", bundle),
        code=3,
    )
    assert "rejected: blue/broken.jpg: " in ended.err
    assert "15 pictures in " in ended.err
    written = json.loads((terminal.folder / "res.json").read_text(encoding="utf-8"))
    chinese = {"red": "红", "green": "绿", "blue": "蓝"}
    for colour, label in chinese.items():
        assert {written[f"{colour}/{colour}-{i}.jpg"] for i in range(3)} == {label}
    assert set(written) == {f"{c}/{c}-{i}.jpg" for c in colours.COLOURS for i in range(3)}
    assert not list(terminal.folder.glob(".res*"))


def test_labels_in_sidecars(terminal, photos: Path, bundle: Path) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    (photos / "blue" / "blue-0.xmp").write_text("not XMP", encoding="utf-8")
    words = (
        "classify",
        "PHOTOS",
        "--labels",
        "red,green,blue,yellow,white",
        "--model",
        bundle,
        "--write-xmp",
        "-o",
        "a.json",
    )
    ended = terminal.type(*words, code=3)
    assert "rejected: blue/blue-0.jpg: " in ended.err
    assert "14 sidecars written" in ended.err
    assert ">red<" in (photos / "red" / "red-0.jpg.xmp").read_text(encoding="utf-8")
    assert (photos / "blue" / "blue-0.xmp").read_text(encoding="utf-8") == "not XMP"
    assert {path: path.read_bytes() for path in photos.rglob("*.jpg")} == before
    assert "0 sidecars written" in terminal.type(*words, code=3).err
    assert len(list(photos.rglob("*.xmp"))) == 15
    (photos / "blue" / "blue-0.xmp").unlink()
    terminal.type("classify", "PHOTOS/blue/blue-0.jpg", *words[2:])
    assert ">blue<" in (photos / "blue" / "blue-0.jpg.xmp").read_text(encoding="utf-8")


def test_no_picture_is_no_table(terminal, bundle: Path) -> None:
    (terminal.folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    ended = terminal.type("classify", "broken.jpg", "--labels", "红,绿", "--model", bundle, code=3)
    assert ended.out == ""
    assert "rejected: broken.jpg: " in ended.err


def test_many_labels(terminal, photos: Path, bundle: Path) -> None:
    words = ("classify", "PHOTOS/yellow/yellow-0.jpg", "--model", bundle, "--json", "--labels")
    together = terminal.type(*words, "yellow,red,blue", "--multi-label").json["images"][0]["labels"]
    alone = terminal.type(*words, "yellow", "--multi-label").json["images"][0]["labels"]
    assert alone[0]["probability"] == pytest.approx(together[0]["probability"], abs=1e-6)
    assert together[0]["label"] == "yellow"
    assert together[0]["probability"] > 0.9 > together[-1]["probability"]
    noted = terminal.type(*words, "yellow")
    assert "--multi-label" in noted.err


def test_a_sigmoid_model_judges_each_label_alone(terminal, photos: Path, tmp_path: Path) -> None:
    sigmoid = colours.make_bundle(tmp_path / "sigmoid", kind="sigmoid")
    words = ("classify", "PHOTOS/red/red-0.jpg", "--model", sigmoid, "--json", "--labels")
    (image,) = terminal.type(*words, "red,blue").json["images"]
    for label in image["labels"]:
        expected = 1 / (1 + 2.718281828459045 ** -(10.0 * label["cosine"] - 5.0))
        assert label["probability"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("template", ["a photo", "_ and {}"])
def test_a_template_without_one_place_is_2(terminal, photos: Path, bundle: Path, template: str) -> None:
    words = ("classify", "PHOTOS", "--labels", "a,b", "--model", bundle, "--template", template)
    assert "exactly one _ or {}" in terminal.type(*words, code=2).err
