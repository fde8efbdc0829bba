import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

import tiny
from tuwen.bundle.bundle import read_bundle, seal, writing
from tuwen.errors import BundleChanged, BundleInvalid, BundleNotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_bundle(tmp_path / "tiny").folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "tuwen.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_bundle_comes_back_as_it_was_written(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.manifest.model_copy(update={"files": {}}) == tiny.manifest()
    assert set(bundle.manifest.files) == {"onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"}
    assert bundle.graphs["text", "fp32"].read_bytes() == tiny.text_graph().SerializeToString()
    assert bundle.tokenizer.read_bytes() == tiny.tokenizer_json()
    assert bundle.precisions == ("fp32",)


def test_precisions_are_those_that_both_towers_have_best_first(tmp_path: Path) -> None:
    graphs = {
        f"onnx/{tower}_model{suffix}.onnx": graph
        for tower, graph in (("vision", tiny.vision_graph()), ("text", tiny.text_graph()))
        for suffix in ("_int8", "", "_fp16")
        if (tower, suffix) != ("text", "_fp16")
    }
    assert tiny.write_bundle(tmp_path / "a", graphs).precisions == ("fp32", "int8")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"dim": "many"}, "dim"),
        ({"dim": 0}, ""),
        ({"scoring": None}, ""),
        ({"image": {"size": [8, 8], "resize": "crop", "mean": [0, 0, 0], "std": [1, 1, 1]}}, "image.resize"),
        ({"files": {"../secret": {"sha256": "0" * 64, "bytes": 1}}}, "files"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}}, "files"),
        ({"format": 2}, "format"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_by_file_and_field(
    folder: Path, changes: dict[str, object], field: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(BundleInvalid) as caught:
        read_bundle(folder)
    assert (caught.value.value, caught.value.where) == (field, folder / "tuwen.json")
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named(folder: Path) -> None:
    content = json.loads((folder / "tuwen.json").read_text())
    del content["text"]["cut_exact"]
    (folder / "tuwen.json").write_text(json.dumps(content))
    with pytest.raises(BundleInvalid) as caught:
        read_bundle(folder)
    assert caught.value.value == "text.cut_exact"


def test_a_manifest_cut_short_is_refused(folder: Path) -> None:
    path = folder / "tuwen.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BundleInvalid):
        read_bundle(folder)


def test_every_changed_byte_is_found(folder: Path, tmp_path: Path) -> None:
    for name in ("onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"):
        path, whole = folder / name, (folder / name).read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleChanged) as changed:
            read_bundle(folder, tmp_path / "cache")
        path.write_bytes(whole + b"x")
        with pytest.raises(BundleChanged) as longer:
            read_bundle(folder, tmp_path / "cache")
        path.unlink()
        with pytest.raises(BundleChanged) as missing:
            read_bundle(folder, tmp_path / "cache")
        assert longer.value.value == len(whole) + 1
        assert {caught.value.where for caught in (changed, longer, missing)} == {path}
        path.write_bytes(whole)
    read_bundle(folder, tmp_path / "cache")


def test_a_change_is_found_by_a_process_that_remembers_the_old_digest(folder: Path, tmp_path: Path) -> None:
    read_bundle(folder, tmp_path / "cache")
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"dog", b"cow"))
    with pytest.raises(BundleChanged):
        read_bundle(folder, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_changes_nothing(folder: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    assert read_bundle(folder, blocked / "cache").manifest == read_bundle(folder).manifest


def test_a_bundle_of_one_tower_or_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid):
        tiny.write_bundle(tmp_path / "a", {"onnx/vision_model.onnx": tiny.vision_graph()})
    with writing(tmp_path / "b") as aside:
        (aside / "onnx").mkdir()
        onnx.save(tiny.vision_graph(), aside / "onnx/vision_model.onnx")
        onnx.save(tiny.text_graph(), aside / "onnx/text_model.onnx")
        seal(aside, tiny.manifest())
    with pytest.raises(BundleInvalid):
        read_bundle(tmp_path / "b")


def test_a_write_that_fails_leaves_what_was_there(folder: Path) -> None:
    before = (folder / "tuwen.json").read_bytes()

    def fail() -> None:
        with writing(folder) as aside:
            (aside / "tuwen.json").write_text("{}")
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        fail()
    assert (folder / "tuwen.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_older_bundle_is_replaced_as_a_whole(folder: Path) -> None:
    (folder / "stray").write_text("of the older one")
    tiny.write_bundle(folder, name="newer")
    assert read_bundle(folder).manifest.name == "newer"
    assert not (folder / "stray").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("folder", [Path(), Path(".."), Path("/"), Path("/proc")])
def test_a_folder_that_must_stay_is_told_before_anything_is_written(folder: Path) -> None:
    with pytest.raises(BundleInvalid), writing(folder):
        raise AssertionError("the work would be lost")


def test_a_folder_with_other_things_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("precious")
    with pytest.raises(BundleInvalid), writing(tmp_path / "photos"):
        pytest.fail("must not be entered")
    assert (tmp_path / "photos" / "cat.jpg").read_text() == "precious"


WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from tuwen.bundle.bundle import writing
with writing(Path(sys.argv[1])) as aside:
    (aside / "half").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("before", [True, False])
def test_a_process_killed_while_writing_leaves_the_bundle_as_it_was(tmp_path: Path, before: bool) -> None:
    folder = tmp_path / "tiny"
    if before:
        tiny.write_bundle(folder)
    with subprocess.Popen([sys.executable, "-c", WRITE_SLOWLY, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert folder.exists() == before
    if before:
        read_bundle(folder)
    left = [path for path in tmp_path.iterdir() if path != folder]
    assert len(left) == 1
    tiny.write_bundle(folder)
    assert left[0].exists(), "it may belong to a process that is still at work"
    yesterday = time.time() - 25 * 3600
    os.utime(left[0], (yesterday, yesterday))
    tiny.write_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_killed_between_the_renames_the_older_bundle_is_named_and_kept(folder: Path) -> None:
    aside = folder.parent / f".{folder.name}-old-abcd1234"
    aside.mkdir()
    folder.rename(aside / folder.name)
    with pytest.raises(BundleNotFound) as caught:
        read_bundle(folder)
    assert str(aside / folder.name) in caught.value.hint
    yesterday = time.time() - 25 * 3600
    os.utime(aside, (yesterday, yesterday))
    with pytest.raises(RuntimeError, match="again"), writing(folder):
        raise RuntimeError("again")
    assert read_bundle(aside / folder.name).manifest.name == "tiny"


def test_a_bundle_with_a_longer_name_keeps_what_it_is_writing(tmp_path: Path) -> None:
    other = tmp_path / ".b32-large-abcd1234"
    other.mkdir()
    os.utime(other, (0, 0))
    tiny.write_bundle(tmp_path / "b32")
    assert other.exists()
