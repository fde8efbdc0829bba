"""Another tool's configuration, run as it is: builds and searches in all modes, with every kind of index."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import colours
from tuwen.cli.command import exit_code
from tuwen.cli.main import tuwen


@dataclass(frozen=True)
class Ended:
    """What a command printed."""

    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Terminal:
    """Commands in this process; the examples of the guide run in processes of their own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def type(self, *words: str, code: int = 0) -> Ended:
        self._capsys.readouterr()
        ended = exit_code(lambda: tuwen.main(list(words), standalone_mode=False))
        captured = self._capsys.readouterr()
        assert ended == code, captured.err
        return Ended(captured.out, captured.err)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.make_bundle(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return colours.make_photos(tmp_path / "PHOTOS")


@pytest.fixture
def terminal(tmp_path: Path, photos: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """A terminal with pictures, texts and a configuration."""
    monkeypatch.chdir(tmp_path)
    config = {
        "Global": {"mode": "text-to-image", "model": str(bundle), "infer_imgs": "PHOTOS", "texts": "texts.txt"},
        "IndexProcess": {
            "image_index_dir": "clip_image",
            "text_index_dir": "clip_text",
            "return_k": 2,
            "score_thres": 0.5,
        },
    }
    (tmp_path / "inference_clip.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (tmp_path / "texts.txt").write_text("a photo of red\na photo of green\n", encoding="utf-8")
    return Terminal(tmp_path, capsys)


def run(terminal, mode: str, *overrides: str, code: int = 0):
    options = [word for override in (f"Global.mode={mode}", *overrides) for word in ("-o", override)]
    return terminal.type("run", "-c", "inference_clip.yaml", *options, code=code)


def lists(ended) -> list[list[str]]:
    """What was printed: one list a query."""
    found, rest = [], ended.out
    while rest.strip():
        value, end = json.JSONDecoder().raw_decode(rest.lstrip())
        found.append(value)
        rest = rest.lstrip()[end:]
    return found


@pytest.mark.parametrize(("method", "metric"), [("HNSW32", "IP"), ("Flat", "L2"), ("IVF", "IP")])
def test_builds_and_searches(terminal, method: str, metric: str) -> None:
    kind = (f"IndexProcess.index_method={method}", f"IndexProcess.dist_type={metric}")
    assert run(terminal, "image_index_build", *kind).out.startswith("clip_image: 15 rows; 15 indexed, 1 skipped; ")
    assert run(terminal, "text_index_build", *kind).out.startswith("clip_text: 2 rows; 2 indexed; ")
    red, green = lists(run(terminal, "text-to-image", *kind))
    assert {Path(path).parent for path in red} == {Path("PHOTOS/red")}
    assert {Path(path).parent for path in green} == {Path("PHOTOS/green")}
    picture = "Global.infer_imgs=PHOTOS/red/red-1.jpg"
    ((first, _),) = lists(run(terminal, "image-to-image", *kind, picture))
    assert first == "PHOTOS/red/red-1.jpg"
    shown = run(terminal, "image-to-text", *kind, picture, "IndexProcess.return_k=1")
    assert shown.out == '[\n  "a photo of red"\n]\n'
    assert lists(run(terminal, "text-to-text", *kind))[1][0] == "a photo of green"
    assert lists(run(terminal, "text-to-image", *kind, "IndexProcess.score_thres=0.9999")) == [[], []]


def test_append_and_remove(terminal) -> None:
    run(terminal, "text_index_build")
    (terminal.folder / "texts.txt").write_text("a photo of blue\na photo of red\n", encoding="utf-8")
    assert (
        "3 rows; 1 indexed, 1 unchanged" in run(terminal, "text_index_build", "IndexProcess.index_operation=append").out
    )
    (terminal.folder / "texts.txt").write_text("a photo of red\n", encoding="utf-8")
    assert "2 rows; 1 removed" in run(terminal, "text_index_build", "IndexProcess.index_operation=remove").out
    assert "1 row; 1 indexed, 2 removed" in run(terminal, "text_index_build").out
    (terminal.folder / "data.txt").write_text(
        "red/red-0.jpg\tred\nblue/blue-0.jpg\tblue\nno.jpg\tx\n", encoding="utf-8"
    )
    data = ("IndexProcess.data_file=data.txt", "IndexProcess.image_root=PHOTOS")
    ended = run(terminal, "image_index_build", *data, code=3)
    assert "2 rows; 2 indexed, 1 rejected" in ended.out
    assert ended.err == "tuwen: rejected: no.jpg: does not exist\n"
    (first, *_), *_ = lists(run(terminal, "text-to-image"))
    assert first == "red/red-0.jpg"
    removed = run(terminal, "image_index_build", *data, "IndexProcess.index_operation=remove")
    assert "0 rows; 2 removed" in removed.out
    texts = run(terminal, "text_index_build", *data)
    assert "3 rows; 3 indexed, 1 removed" in texts.out


def test_a_picture_that_cannot_be_read_is_reported(terminal, photos: Path) -> None:
    run(terminal, "text_index_build")
    (photos / "red" / "red-0.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    ended = run(terminal, "image-to-text", "Global.infer_imgs=PHOTOS/red", code=3)
    assert len(lists(ended)) == 2
    assert "rejected: " in ended.err


def test_a_text_that_cannot_be_read_is_reported(terminal) -> None:
    run(terminal, "text_index_build")
    (terminal.folder / "texts.txt").write_bytes(b"a photo of red\n\na photo of \xff\na photo of green\n")
    ended = run(terminal, "text-to-text", code=3)
    assert [first for first, *_ in lists(ended)] == ["a photo of red", "a photo of green"]
    assert ended.err == "tuwen: rejected: texts.txt/3: is not UTF-8\n"


def test_what_cannot_be_honoured_is_refused_before_anything_is_done(terminal) -> None:
    wrong = ("IndexProcess.index_method=PQ", "Global.embedding_size=512", "Global.speed=9")
    ended = run(terminal, "image_index_build", *wrong, code=2)
    assert [re.split(r":? ", line.partition(": error: ")[2])[0] for line in ended.err.splitlines()] == [
        "Global.speed",
        "IndexProcess.index_method",
    ]
    preprocess = "PreProcess.transform_ops=[{ResizeImage: {size: 224}}]"
    ended = run(terminal, "image_index_build", "Global.embedding_size=512", preprocess, code=2)
    assert len(ended.err.splitlines()) == 2
    assert not (terminal.folder / "clip_image").exists()
    append = "IndexProcess.index_operation=append"
    assert "IndexProcess.index_operation" in run(terminal, "image_index_build", append, code=2).err
    assert "clip_image" in run(terminal, "text-to-image", code=2).err
    run(terminal, "text_index_build")
    ended = run(terminal, "text_index_build", "IndexProcess.index_method=Flat", code=2)
    assert "IndexProcess.index_method" in ended.err


def test_json(terminal) -> None:
    run(terminal, "image_index_build")
    ended = terminal.type("run", "-c", "inference_clip.yaml", "-o", "Global.batch_size=3", "--json")
    assert set(ended.json) == {"mode", "model", "queries", "rejected"}
    assert [query["query"] for query in ended.json["queries"]] == ["a photo of red", "a photo of green"]
    assert set(ended.json["queries"][0]["hits"][0]) == {"id", "score", "payload"}
    assert "Global.batch_size" in ended.err
