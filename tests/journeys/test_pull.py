"""Models by their names, from a hub on loopback; afterwards without it."""

import json
import signal
import threading
import time
from pathlib import Path

import onnx
import pytest

import colours
import hub_server
import tiny
from bundle.published import CLIP, FIXED, IMMICH
from bundle.test_foreign import write

pytestmark = [pytest.mark.journey, pytest.mark.long]

NAME = "ViT-B-32/openai"
ONNX = "Xenova/clip-vit-base-patch32"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graphs = {
        f"onnx/{tower}_model{suffix}.onnx": graph(normalised=not suffix)
        for tower, graph in (("vision", tiny.vision_graph), ("text", tiny.text_graph))
        for suffix in ("", "_fp16")
    }
    folder = write(tmp_path_factory.mktemp("published"), CLIP, graphs)
    (folder / "onnx" / "model.onnx").write_bytes(b"both towers in one: not wanted")
    return folder


@pytest.fixture
def hub(terminal, clip: Path, tmp_path: Path):
    with hub_server.running() as hub:
        hub.add_folder(ONNX, clip)
        terminal.environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "TUWEN_MODELS": str(tmp_path / "models"),
            "TUWEN_CACHE": str(tmp_path / "cache"),
        }
        yield hub


def test_a_ready_model_is_pulled_once_and_then_used_without_the_hub(terminal, hub, tmp_path: Path) -> None:
    pulled = terminal.type("pull", NAME, "--json").json
    assert (pulled["model"], pulled["already"], pulled["precisions"]) == (NAME, False, ["fp32"])
    assert pulled["bundle"] == str(tmp_path / "models" / NAME)
    assert pulled["source"].startswith(f"hf:{ONNX}@")
    assert not [seen for seen in hub.seen if seen.path.endswith("onnx/model.onnx")]
    asked = len(hub.seen)
    assert terminal.type("pull", NAME, "--json").json["already"] is True
    assert len(hub.seen) == asked
    hub.always = 503
    colours.picture("red").save(terminal.folder / "cat.jpg")
    found = terminal.type("embed", "cat.jpg", "the dog", "--model", NAME, "--json").json
    assert (found["model"], found["fingerprint"]) == (NAME, pulled["fingerprint"])
    words = ("classify", "cat.jpg", "--labels", "red,blue", "--model", NAME)
    assert f"tuwen pull {NAME} --export" in terminal.type(*words, code=1).err
    manifest = tmp_path / "models" / NAME / "tuwen.json"
    written = json.loads(manifest.read_text()) | {"scoring": {"kind": "softmax", "scale": 7.5}}
    manifest.write_text(json.dumps(written))
    assert terminal.type(*words, "--json").json["images"][0]["path"] == "cat.jpg"
    assert terminal.type("embed", "cat.jpg", "--model", NAME, "--json").json["fingerprint"] == pulled["fingerprint"]
    local = terminal.type("models", "--local", "--json").json["models"]
    assert [row["model"] for row in local] == ["photo", "pictograms", NAME]
    assert local[-1]["here"] == pulled["bundle"]
    assert f"*{NAME}" in terminal.type("models").out
    error = terminal.type("pull", NAME, "--export", "--offline", code=1).err
    assert "timm/vit_base_patch32_clip_224.openai is not in the download cache" in error, "ready files are no export"
    assert len(hub.seen) == asked


def test_another_precision_is_fetched_later(terminal, hub) -> None:
    terminal.type("pull", NAME)
    more = terminal.type("pull", NAME, "--precision", "fp16", "--json").json
    assert (more["precisions"], more["already"]) == (["fp32", "fp16"], False)
    fetched = [seen.path for seen in hub.seen if "resolve" in seen.path and seen.path.endswith(".onnx")]
    assert len(fetched) == len(set(fetched)) == 4, "what is here is not fetched again"


def test_immich_s_files_with_their_weights_apart(terminal, hub, tmp_path: Path) -> None:
    graphs = {
        "visual/model.onnx": tiny.vision_graph(batch=1, name="image"),
        "textual/model.onnx": tiny.text_graph(**FIXED, wide=False, name="text"),
    }
    folder = write(tmp_path / "immich", IMMICH, {})
    for name, graph in graphs.items():
        (folder / name).parent.mkdir(exist_ok=True)
        apart = {"save_as_external_data": True, "location": f"{name[:3]}-weights", "size_threshold": 0}
        onnx.save(graph, folder / name, **apart)
    if (folder / "tokenizer.json").exists():
        (folder / "tokenizer.json").rename(folder / "textual" / "tokenizer.json")
    (folder / "visual" / "model.armnn").write_bytes(b"for another runtime")
    hub.add_folder("someone/like-immich", folder)
    pulled = terminal.type("pull", "someone/like-immich", "--json").json
    names = {path.name for path in (Path(pulled["bundle"]) / "onnx").iterdir()}
    assert names == {"vision_model.onnx", "text_model.onnx", "vis-weights", "tex-weights"}
    there = terminal.type("embed", "the dog", "--model", folder, "--json").json
    here = terminal.type("embed", "the dog", "--model", "someone/like-immich", "--json").json
    assert here["vectors"] == there["vectors"]
    assert there["fingerprint"] == pulled["fingerprint"]


def test_killed_and_begun_again_it_goes_on(terminal, hub, tmp_path: Path) -> None:
    hub.slow = threading.Event()
    first = terminal.start("pull", NAME)
    blobs = tmp_path / "hf" / "hub" / f"models--{ONNX.replace('/', '--')}" / "blobs"
    for _ in range(600):
        if any(part.stat().st_size for part in blobs.glob("*.incomplete")):
            break
        time.sleep(0.05)
    part = next(blobs.glob("*.incomplete"))
    had = part.stat().st_size
    first.send_signal(signal.SIGKILL)
    first.communicate()
    hub.slow.set()
    hub.slow = None
    assert had > 0
    assert not (tmp_path / "models" / NAME).exists()
    terminal.type("pull", NAME)
    assert f"bytes={had}-" in {seen.range for seen in hub.seen}
    assert not list(blobs.glob("*.incomplete"))


def test_two_pulls_at_once_get_it_once(terminal, hub) -> None:
    both = [terminal.start("pull", NAME, "--json") for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    paths = [seen.path for seen in hub.bodies()]
    assert len(paths) == len(set(paths))


def test_failures_say_what_was_tried_and_the_ways_out(terminal, hub) -> None:
    for words, expected in (
        (("pull", NAME, "--offline"), "tuwen is offline"),
        (("pull", "org/nothing"), "has no repository org/nothing"),
    ):
        error = terminal.type(*words, code=1).err.splitlines()[-1]
        for part in (expected, "Tried ", hub.url, "HF_ENDPOINT=URL", "on another machine", "--weights FILE"):
            assert part in error, error
    terminal.environment["TUWEN_OFFLINE"] = "1"
    asked = len(hub.seen)
    assert "offline" in terminal.type("pull", NAME, code=1).err
    assert len(hub.seen) == asked
    assert "ViT-B-32" in terminal.type("pull", "ViT-B-23", code=2).err, "similar names are suggested"
    assert "'qqqqq'" in terminal.type("pull", "qqqqq", code=2).err
    assert "--model demo" in terminal.type("pull", "demo", code=2).err
    assert f"tuwen pull {NAME}" in terminal.type("embed", "a dog", "--model", NAME, code=1).err


def test_a_damaged_bundle_is_pulled_again(terminal, hub) -> None:
    bundle = Path(terminal.type("pull", NAME, "--json").json["bundle"])
    (bundle / "tokenizer.json").unlink()
    assert terminal.type("pull", NAME, "--json").json["already"] is False
    assert (bundle / "tokenizer.json").is_file()
