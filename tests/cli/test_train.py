"""`tuwen train`, as typed, on small towers and pictures of two colours."""

import json
from pathlib import Path

import pytest
import yaml

from cli.running import run
from shapes import shape, written_shapes
from train.runs import tree, write_pairs
from tuwen.bundle.bundle import read_bundle
from tuwen.train.config_file import config_of, dump_config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs, one of which is broken, and a configuration."""
    folder = tmp_path_factory.mktemp("train")
    data = write_pairs(folder / "pairs")
    (data / "broken.png").write_bytes(b"no picture")
    (data / "broken.txt").write_text("nothing")
    found = tree(data, folder / "output", evaluate={"pairs": str(data / "."), "k": [1, 5]})
    found["data"]["max_bad"] = 0.1
    (folder / "small.yaml").write_text(yaml.safe_dump(found))
    return folder


def test_the_whole_configuration_is_printed(place: Path) -> None:
    done = run("train", "-c", place / "small.yaml", "-o", "optimizer.lr=4e-4", "--print-config")
    assert done.exit_code == 0
    assert "  lr: 0.0004\n" in done.stdout
    assert dump_config(config_of(yaml.safe_load(done.stdout))) == done.stdout


def test_what_cannot_be_trained_is_told_in_one_line(place: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((), "say what to train: -c FILE, or --resume FOLDER"),
        (("-c", place / "small.yaml", "--resume", tmp_path), "not both"),
        (("--resume", tmp_path), "is the folder of no run: config.yaml is missing"),
        (("-c", place / "small.yaml", "-o", "optimiser.lr=1"), "did you mean optimizer?"),
        (
            (
                "-c",
                place / "small.yaml",
                "-o",
                f"model.source={tmp_path}",
                "-o",
                "model.scratch=false",
                "-o",
                "model.overrides={}",
            ),
            "is a checkpoint of no family",
        ),
        (("-c", place / "small.yaml", "-o", "run.device=tpu9"), "run.device='tpu9' is no device"),
        (("-c", place / "small.yaml", "-o", "run.fsdp=true"), "start them with torchrun"),
    ):
        done = run("train", *arguments)
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert done.stderr.splitlines()[-1].startswith("tuwen: error: ")
        assert done.stdout == ""


def test_pairs_to_a_verified_bundle_in_one_command(place: Path, root: Path) -> None:
    done = run("train", "-c", place / "small.yaml", "-o", "export.precisions=[fp32]", "--json")
    assert done.exit_code == 3, done.output  # a picture was skipped
    said = json.loads(done.stdout)
    assert shape(said | {"figures": None}) == written_shapes(root)["train"]
    output = place / "output"
    bundle = read_bundle(output / "bundle")
    assert (said["steps"], said["bundle"], said["fingerprint"]) == (
        8,
        str(bundle.folder),
        bundle.manifest.fingerprint(),
    )
    assert all(check["passed"] for check in said["checks"])
    assert ["broken" in item["key"] for item in said["skipped"]] == [True]
    assert set(said["figures"]) == {f"{way}@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5)}
    assert bundle.manifest.facts["trained_steps"] == said["best"]
    assert bundle.manifest.name == "output"
    assert "| step | image_to_text@1" in (output / "report.md").read_text()
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((output / "tensorboard").iterdir())
    assert "pairs/s  left 0:00:00" in done.stderr


def test_a_resumed_run_takes_its_own_configuration(place: Path) -> None:
    """After the test above: nothing is left to do but what is asked for on top."""
    done = run("train", "--resume", place / "output", "-o", "run.steps=10")
    assert done.exit_code == 3, done.output
    assert "going on after step 8" in done.stderr
    assert "output: 10 steps in " in done.stdout
