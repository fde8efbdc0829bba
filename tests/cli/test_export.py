"""`tuwen export` and `tuwen verify`, as typed, on a small architecture that open_clip is told of."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from cli.running import run
from tuwen.bundle.bundle import read_bundle
from tuwen.demo import demo_gallery
from tuwen.models.openclip import load
from tuwen.models.torchvision import import_open_clip

NAME = "ViT-tiny-of-tests"
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "layers": 1, "width": 32, "heads": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the architecture's weights, and others of the same shape."""
    folder = tmp_path_factory.mktemp("export")
    config = folder / f"{NAME}.json"
    config.write_text(json.dumps(CONFIG))
    import_open_clip().add_model_config(config)
    for name, seed in (("right", 0), ("wrong", 1)):
        towers = load(NAME, seed=seed)
        torch.save({**towers.weights, "logit_scale": torch.tensor(4.6052)}, folder / f"{name}.bin")
    return folder


@pytest.fixture(scope="module")
def exported(place) -> Result:
    arguments = ("--weights", place / "right.bin", "-o", place / "bundle", "--precision", "fp32, fp16", "--json")
    return run("export", f"openclip:{NAME}", *arguments, "--name", "tiny")


@pytest.mark.long
def test_export(exported, place) -> None:
    assert exported.exit_code == 0, exported.output
    document = json.loads(exported.stdout)
    bundle = read_bundle(place / "bundle")
    assert document["fingerprint"] == bundle.manifest.fingerprint()
    assert (document["model"], document["precisions"], document["cut_exact"]) == ("tiny", ["fp32", "fp16"], True)
    assert bundle.manifest.source == f"openclip:{NAME}/right.bin"
    assert bundle.manifest.scoring.scale == pytest.approx(100, rel=1e-4)
    assert all(check["passed"] for check in document["checks"])
    assert {check["stage"] for check in document["checks"]} == {
        "pixels",
        "tokens",
        "image",
        "text",
        "similarity",
        "labels",
    }
    assert document["peak_mib"] > 100
    assert "simplification" in exported.stderr


@pytest.mark.long
def test_verify_against_the_checkpoint(exported, place) -> None:
    right = run("verify", place / "bundle", "--against", f"openclip:{NAME}", "--weights", place / "right.bin")
    assert right.exit_code == 0, right.output
    assert right.stdout.splitlines()[-1] == "tiny: passed"
    wrong = run("verify", place / "bundle", "--against", f"openclip:{NAME}", "--weights", place / "wrong.bin", "--json")
    assert wrong.exit_code == 1
    document = json.loads(wrong.stdout)
    assert not document["passed"]
    assert {check["stage"] for check in document["checks"] if not check["passed"]} >= {
        "image",
        "text",
        "similarity",
    }


@pytest.mark.long
def test_verify_on_pictures_and_captions_of_one_s_own(exported, place, tmp_path) -> None:
    from tuwen.exporting.samples import built_in

    for number, image in enumerate(built_in().images[:3]):
        image.save(tmp_path / f"{number}.png")
    (tmp_path / "captions.txt").write_text("一只狗\n\na cat\nnight\n", encoding="utf-8")
    result = run("verify", place / "bundle", "--images", tmp_path, "--texts", tmp_path / "captions.txt", "--json")
    assert result.exit_code == 0, result.output
    stages = {(check["stage"], check["runtime"], check["precision"]) for check in json.loads(result.stdout)["checks"]}
    assert {("image", "openvino", "fp16"), ("labels", "onnxruntime", "fp32")} <= stages
    assert ("pixels", "prepare", "fp32") in stages, "of the canonical outputs"


@pytest.mark.long
def test_labels_on_two_runtimes(exported, place, tmp_path) -> None:
    from tuwen.exporting.samples import built_in

    built_in().images[0].save(tmp_path / "cat.png")
    arguments = ("--labels", "cat,dog", "--template", "a photo of a _", "--devices", "cpu:onnxruntime,cpu:openvino")
    report = tmp_path / "report.md"
    result = run("verify", place / "bundle", "--images", tmp_path / "cat.png", *arguments, "--report", report, "--json")
    assert result.exit_code == 0, result.output
    checks = json.loads(result.stdout)["checks"]
    assert [(check["stage"], check["runtime"]) for check in checks][-1] == ("labels", "cpu:openvino")
    assert checks[-1]["worst_cosine"] > 0.99
    assert "itself on cpu:onnxruntime" in report.read_text(encoding="utf-8")
    assert (tmp_path / "report.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--labels", "cat,dog", "--texts", "captions.txt"), "--labels"),
        (("--template", "a _"), "--labels"),
        (("--devices", "cpu,cuda", "--against", "openclip:ViT-B-32"), "--against"),
    ],
)
def test_words_that_do_not_go_together(arguments, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.txt").write_text("a\nb\n")
    result = run("verify", "demo", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("export", "clip", "-o", "b"), 2, "'clip'"),
        (("export", "openclip:ViT-B-32", "-o", "b"), 2, "--weights FILE"),
        (
            ("export", "hf:org/name", "-o", "b", "--precision", "fp7"),
            2,
            "'fp7'",
        ),
        (("verify", "demo", "--against", "hf:org/name"), 2, "tuwen export hf:org/name"),
        (
            ("verify", "demo", "--against", "torch"),
            2,
            "recipes/emoji",
        ),
        (("verify", "nowhere"), 1, "nowhere"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(arguments, code, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_one_picture_is_not_enough(exported, place, tmp_path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    result = run("verify", place / "bundle", "--images", tmp_path)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.long
def test_weights_without_their_architecture(exported, place) -> None:
    result = run("verify", place / "bundle", "--weights", place / "right.bin")
    assert result.exit_code == 2
    assert "add --against SOURCE" in result.stderr


@pytest.fixture
def embedded(exported, place, monkeypatch):
    """The vectors of a picture and a text."""
    monkeypatch.chdir(place)
    Image.new("RGB", (40, 30), "red").save("cat.jpg")

    def embed(*words: object) -> np.ndarray:
        done = run("embed", "cat.jpg", "a cat", "--model", place / "bundle", "-o", "pair.npy", *words)
        assert done.exit_code == 0, done.output
        return np.load("pair.npy")

    return embed


@pytest.mark.long
def test_the_same_vectors_from_every_runtime_and_from_the_checkpoint(embedded) -> None:
    torch_too = ("--runtime", "torch", "--weights", "right.bin")
    in_torch = embedded(*torch_too)
    assert (in_torch.shape, in_torch.dtype) == ((2, 16), np.float32)
    for words in (
        ("--runtime", "onnxruntime"),
        ("--runtime", "openvino"),
        ("--runtime", "torch", "--weights", "right.bin"),
    ):
        dynamic = embedded(*words, "--precision", "fp32")
        np.testing.assert_allclose(dynamic, in_torch, atol=2e-5)
        np.testing.assert_allclose(embedded(*words, "--precision", "fp32", "--static"), dynamic, atol=2e-6)


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("a cat", "--model", "bundle", "--weights", "right.bin"),
            "--weights",
        ),
        (
            ("a cat", "--model", "bundle", "--runtime", "torch", "--weights", "wrong.bin"),
            "is not the checkpoint",
        ),
        (
            ("a cat", "--model", "bundle", "--runtime", "torch"),
            "is not on this machine: add --weights",
        ),
        ((".", "-o", "out", "--static"), "--static"),
        ((".", "-o", "out", "--runtime", "torch"), "--runtime torch"),
        ((), "embed"),
    ],
)
def test_embedding_that_cannot_be(exported, place, monkeypatch, words, said) -> None:
    monkeypatch.chdir(place)
    done = run("embed", *words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


@pytest.mark.long
def test_evaluated_in_torch_and_beside_it(exported, place, monkeypatch) -> None:
    monkeypatch.chdir(place)
    for name in ("flags", "food-and-drink"):
        (place / "classes" / name).mkdir(parents=True, exist_ok=True)
        for picture in sorted((demo_gallery() / name).iterdir())[:6]:
            shutil.copy(picture, place / "classes" / name)

    def evaluated(*words: str) -> dict:
        done = run("evaluate", "bundle", "classes", "--precision", "fp32", *words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["results"][0]

    weights = ("--weights", "right.bin")
    here, in_torch = evaluated("--runtime", "onnxruntime"), evaluated("--runtime", "torch", *weights)
    assert (here["runtime"], in_torch["runtime"]) == ("onnxruntime", "torch")
    assert in_torch["metrics"] == pytest.approx(here["metrics"], abs=1e-6)
    beside = evaluated("--runtime", "onnxruntime", "--against", "torch", *weights)["against"]
    assert beside["metrics"] == pytest.approx(here["metrics"], abs=1e-6)
    assert (beside["runtime"], beside["changed"]) == ("torch", 0)
