"""`--url` in place of `--index`: the same tables, the same JSON, and what cannot be asked for together."""

import json
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from server.conftest import encoder, photos  # noqa: F401  (fixtures)
from server.serving import Served, indexed, serving
from tuwen.cli.command import REJECTED
from tuwen.cli.main import tuwen
from tuwen.client.client import Client
from tuwen.errors import InvalidInput, KeyRefused, ServiceUnreachable
from tuwen.index.calibration import CALIBRATION, Calibration, Threshold

DEMO = ("--model", "demo")
"""said of an index that was not made by a command: it does not know where its model is"""
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture(scope="module")
def folder(encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """An index that no service has open: of the same pictures as `served`'s, so its rows have the same ids."""
    place = tmp_path_factory.mktemp("here") / "photos.tuwen"
    with indexed(encoder, photos, place):
        return place


@pytest.fixture(scope="module")
def served(encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:  # noqa: F811
    with serving(encoder, photos, tmp_path_factory.mktemp("there"), allow_upload=True) as running:
        yield running


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line; its exit code or None, and what it printed. Nobody's settings are read."""
    for name in ("TUWEN_URL", "TUWEN_KEY", "TUWEN_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TUWEN_RUNTIME", "onnxruntime"), ("TUWEN_PRECISION", "fp32")):  # as the service computes
        monkeypatch.setenv(name, value)

    def run(*words: object) -> tuple[object, str, str]:
        code = tuwen.main([*map(str, words)], standalone_mode=False)
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return run


def rounded(found: object) -> object:
    """JSON with its floats rounded: texts of one batch and of another differ in the last digits."""
    return json.loads(json.dumps(found), parse_float=lambda digits: round(float(digits), 4))


def key(picture: Path) -> str:
    return f"{picture.parent.name}/{picture.name}"


@pytest.mark.parametrize(
    "words",
    [
        ["a red apple", "-k", 5],
        ["--image", "PICTURE", "--where", "width >= 1", "--min-score", 0.1],
        ["--like", "night", "--like", "PICTURE:0.5", "--unlike", "ROW", "--exact"],
        ["--like", "ROW", "--like", "a dog", "--strategy", "best", "--diversity", 0.3],
        ["--compose", "apple + 0.5 * night - a dog", "--unique", 0.95],
    ],
)
def test_search(run: Run, folder: Path, served: Served, photos: Path, words: list[object]) -> None:  # noqa: F811
    picture, row = sorted(photos.rglob("*.*"))[3], sorted(photos.rglob("*.*"))[9]
    words = [str(word).replace("PICTURE", str(picture)).replace("ROW", key(row)) for word in words]
    here = run("search", *words, "--index", folder, *DEMO, "--json")[1]
    there = run("search", *words, "--url", served.url, "--json")[1]
    there_rows, here_rows = json.loads(there), json.loads(here)
    for hit in [*there_rows["hits"], *here_rows["hits"]]:
        del hit["payload"]["modified"]  # of copies
    assert rounded(there_rows) == rounded(here_rows)
    assert there_rows["hits"]


def test_tables(run: Run, folder: Path, served: Served) -> None:
    assert run("search", "apple", "--url", served.url) == run("search", "apple", "--index", folder, *DEMO)
    for words in (["index", "list"], ["index", "list", "--where", 'format == "PNG"']):
        assert run(*words, "--url", served.url) == run(*words, "--index", folder)


def test_info(run: Run, folder: Path, served: Served) -> None:
    here = json.loads(run("index", "info", "--index", folder, "--json")[1])
    there = json.loads(run("index", "info", "--url", served.url, "--json")[1])
    assert there.pop("index") == served.url
    assert there.keys() == here.keys() - {"index"}
    assert there == {name: here[name] for name in there} | {"bytes": there["bytes"]}


def test_measured_thresholds(run: Run, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    search = ["search", "a red apple", "--min-score", "auto", "--json", "--url", served.url]
    with pytest.raises(InvalidInput):
        run(*search)
    every = [hit["score"] for hit in json.loads(run("search", "a red apple", "--json", "--url", served.url)[1])["hits"]]
    info = served.index.info()
    measured = Threshold(
        threshold=every[2], false_accept=0, false_reject=0, matching=9, unmatching=9, rows=info.rows, created="now"
    )
    served.index.calibrate(Calibration(fingerprint=info.fingerprint, text=measured))
    asked = counted(monkeypatch)
    assert [hit["score"] for hit in json.loads(run(*search)[1])["hits"]] == every[:3]
    assert len(asked) == 1, "threshold and model are asked for together"
    with pytest.raises(InvalidInput):
        run("search", "--like", next(iter(served.index.list())).payload["path"], *search[2:])
    assert json.loads(run("index", "info", "--url", served.url, "--json")[1])["thresholds"]["text"]
    (served.index.folder / CALIBRATION).unlink()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Who has asked for the facts of an index from now on."""
    asked, info = [], Client.info

    def counting(client: Client) -> object:
        asked.append(client)
        return info(client)

    monkeypatch.setattr(Client, "info", counting)
    return asked


def test_sheet(run: Run, folder: Path, served: Served, tmp_path: Path) -> None:
    for name, place in (("here", ["--index", folder, *DEMO]), ("there", ["--url", served.url])):
        run("search", "apple", *place, "--sheet", tmp_path / f"{name}.png")
    with Image.open(tmp_path / "here.png") as here, Image.open(tmp_path / "there.png") as there:
        assert np.array_equal(here, there)


def test_classify(run: Run, served: Served, photos: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = next(path for path in sorted(photos.iterdir()) if path.is_dir())
    shutil.copytree(folder, tmp_path / "few")
    (tmp_path / "few" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    words = ["classify", tmp_path / "few", "--labels", "cat,dog,tree", "--template", "a _", "--json"]
    here, there = run(*words, *DEMO), run(*words, "--url", served.url)
    assert (here[0], there[0]) == (REJECTED, REJECTED)
    assert rounded(json.loads(there[1])) == rounded(json.loads(here[1]))
    with pytest.raises(click.UsageError):
        run(*words, "--url", served.url, "--warmup", tmp_path / "few" / "broken.jpg")


def test_a_picture_that_is_too_long_for_the_service_stops_nothing(
    run: Run,
    encoder,  # noqa: F811
    photos: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "few").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "few" / "a-long.png")
    Image.new("RGB", (40, 30), "red").save(tmp_path / "few" / "b.png")
    with serving(encoder, photos, tmp_path / "there", max_picture=20_000) as running:
        code, out, _ = run("classify", tmp_path / "few", "--labels", "cat,dog", "--json", "--url", running.url)
    found = json.loads(out)
    assert (code, [image["path"] for image in found["images"]]) == (REJECTED, ["b.png"])
    ((path, reason),) = [(item["path"], item["reason"]) for item in found["rejected"]]
    assert (path, "20,000" in reason) == ("a-long.png", True)


def test_add_and_remove(run: Run, served: Served, tmp_path: Path) -> None:
    written = BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (30, 50, 3), dtype=np.uint8)).save(written, "PNG")
    (tmp_path / "MORE").mkdir()
    (tmp_path / "MORE" / "new.png").write_bytes(written.getvalue())
    (tmp_path / "MORE" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    before = served.index.info().rows
    code, out, err = run("index", "add", tmp_path / "MORE", "--url", served.url, "--json", "--progress", "json")
    report = json.loads(out)
    assert (code, report["index"], report["indexed"]) == (REJECTED, served.url, 1)
    assert [Path(item["path"]).name for item in report["rejected"]] == ["broken.jpg"]
    assert json.loads(err.splitlines()[0]) == {"committed": before + 1}
    again = run("index", "add", tmp_path / "MORE" / "new.png", "--url", served.url)[1]
    assert f"{before + 1} rows; 1 unchanged" in again
    assert run("index", "remove", "uploads", "--url", served.url)[1].count("1 removed") == 1
    code, out, err = run("index", "remove", "uploads/", "--url", served.url, "--json")
    assert (code, json.loads(out)["removed"]) == (REJECTED, 0)
    assert served.index.info().rows == before


def test_settings(run: Run, folder: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_URL", served.url)
    assert json.loads(run("index", "info", "--json")[1])["index"] == served.url
    assert json.loads(run("index", "info", "--index", folder, "--json")[1])["index"] == str(folder)
    monkeypatch.setenv("TUWEN_INDEX", str(folder))
    with pytest.raises(click.UsageError):
        run("index", "info")
    monkeypatch.setenv("TUWEN_URL", "elsewhere")
    with pytest.raises(InvalidInput):
        run("index", "info", "--url", "elsewhere")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["search", "x", "--index", "here.tuwen"], "both an index"),
        (["search", "x", "--model", "demo"], "--model"),
        (["search", "x", "--exact-decode"], "--exact-decode"),
        (["classify", "setup.csv", "--labels", "a,b", "--model", "demo"], "--model"),
        (["index", "add", ".", "--threads", "2"], "--threads"),
        (["index", "add", "setup.csv", "--texts"], "--texts"),
    ],
)
def test_what_cannot_be_said_with_a_service(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.csv").write_text("text\na\n")
    with pytest.raises(click.UsageError, match=line):
        run(*words, "--url", "http://127.0.0.1:1")


def test_a_key_and_nobody(run: Run, encoder, photos: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    with serving(encoder, photos, tmp_path, keys=("a-key-of-ours",)) as served:
        with pytest.raises(KeyRefused):
            run("index", "list", "--url", served.url)
        monkeypatch.setenv("TUWEN_KEY", "a-key-of-ours")
        assert len(run("index", "list", "--url", served.url)[1].splitlines()) == served.index.info().rows
    with pytest.raises(ServiceUnreachable):
        run("search", "apple", "--url", served.url)
