"""A checkpoint from a hub on loopback: pulled, exported, and computed with by every runtime, in one process."""

import json

import numpy as np
import pytest
import torch

import colours
import hub_server
from cli.running import run
from cli.test_export import CONFIG
from models import tiny_transformers
from tuwen.bundle import catalogue
from tuwen.models.openclip import load
from tuwen.models.torchvision import import_open_clip

pytestmark = pytest.mark.long  # one more export

ARCHITECTURE = "ViT-tiny-of-pulls"
NAME = "tiny/pulled"
TABLE = """
figures: {}
models:
  - {name: tiny/pulled, source: "openclip:ViT-tiny-of-pulls", hub: org/tiny, onnx: org/ready,
     languages: [en], dim: 16, licence: MIT}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """Where the model is pulled to, from a hub that is gone afterwards."""
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("pulls")
    (folder / "table.yaml").write_text(TABLE)
    (folder / f"{ARCHITECTURE}.json").write_text(json.dumps(CONFIG))
    import_open_clip().add_model_config(folder / f"{ARCHITECTURE}.json")
    weights = {**load(ARCHITECTURE).weights, "logit_scale": torch.tensor(4.6052)}
    torch.save(weights, folder / "weights.bin")
    with pytest.MonkeyPatch.context() as patch, hub_server.running() as hub:
        files = {"open_clip_pytorch_model.bin": (folder / "weights.bin").read_bytes(), "README.md": b""}
        hub.add("org/tiny", files)
        hub.add_folder("org/altclip", tiny_transformers.write(folder / "altclip", "altclip"))
        patch.setattr(catalogue, "FILE", folder / "table.yaml")
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        for name in ("MODELS", "CACHE"):
            patch.setenv(f"TUWEN_{name}", str(folder / name.lower()))
        catalogue.catalogue.cache_clear()
        hub.result = run("pull", NAME, "--json")
        hub.exported = run("export", "hf:org/altclip", "-o", folder / "alt", "--json")
        hub.always = 503
        yield folder, hub
    catalogue.catalogue.cache_clear()


def test_where_nothing_is_ready_the_checkpoint_is_exported(place) -> None:
    folder, hub = place
    assert hub.result.exit_code == 0, hub.result.output
    pulled = json.loads(hub.result.stdout)
    assert (pulled["model"], pulled["source"]) == (NAME, f"openclip:{ARCHITECTURE}")
    assert "has no repository org/ready" in hub.result.stderr
    assert "exporting the checkpoint" in hub.result.stderr
    assert json.loads((folder / "models" / NAME / "tuwen.json").read_text())["licence"] == "MIT"


def test_the_checkpoint_is_found_again_without_the_hub(place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, hub = place
    asked = len(hub.seen)
    assert json.loads(run("pull", NAME, "--json").stdout)["already"] is True
    monkeypatch.chdir(folder)
    vectors = {}
    for runtime in ("onnxruntime", "torch"):
        done = run("embed", "a cat", "--model", NAME, "--runtime", runtime, "--precision", "fp32", "-o", "v.npy")
        assert done.exit_code == 0, done.output
        vectors[runtime] = np.load("v.npy")
    np.testing.assert_allclose(vectors["onnxruntime"], vectors["torch"], atol=2e-5)
    assert len(hub.seen) == asked


def test_another_family_is_exported_by_its_name_and_compared_without_the_hub(
    place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PyTorch, too: by `embed`, by `verify` under both of its names, and by `bench`."""
    folder, hub = place
    assert hub.exported.exit_code == 0, hub.exported.output
    assert json.loads(hub.exported.stdout)["model"] == "org/altclip"
    asked = len(hub.seen)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tuwen.cli.bench.PAUSE", 0.0)
    colours.picture("red").save("cat.png")
    printed = {}
    for runtime in ("onnxruntime", "openvino", "torch"):
        done = run(
            "embed", "cat.png", "一只猫", "--model", "alt", "--runtime", runtime, "--precision", "fp32", "--json"
        )
        assert done.exit_code == 0, done.output
        printed[runtime] = [row["vector"] for row in json.loads(done.stdout)["vectors"]]
    for runtime in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(printed[runtime], printed["torch"], atol=2e-5)
    for name in ("torch", "hf:org/altclip"):
        done = run("verify", "alt", "--against", name, "--json")
        assert done.exit_code == 0, done.output
        assert {check["stage"] for check in json.loads(done.stdout)["checks"]} >= {"pixels", "tokens", "image"}
    few = ("--quick", "--batch", "1", "--workload", "towers", "--runtime", "onnxruntime", "--precision", "fp32")
    done = run("bench", "alt", "--against", "torch", *few, "--json")
    assert done.exit_code == 0, done.output
    assert "not the weights" not in done.stderr
    assert len(hub.seen) == asked
