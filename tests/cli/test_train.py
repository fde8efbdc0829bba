"""`tuwen train`, as typed, on small towers and pictures of two colours."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from cli.running import run
from shapes import shape, written_shapes
from training.runs import free_port, losses, tree, write_pairs
from tuwen.bundle.bundle import read_bundle
from tuwen.training.config_file import config_of, dump_config


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
        ((), "--resume FOLDER"),
        (("-c", place / "small.yaml", "--resume", tmp_path), "--resume FOLDER"),
        (("--resume", tmp_path), str(tmp_path)),
        (("-c", place / "small.yaml", "-o", "optimiser.lr=1"), "optimizer"),
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
            str(tmp_path),
        ),
        (("-c", place / "small.yaml", "-o", "run.device=tpu9"), "tpu9"),
        (("-c", place / "small.yaml", "-o", "run.fsdp=true"), "torchrun"),
    ):
        done = run("train", *arguments)
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert done.stderr.splitlines()[-1].startswith("tuwen: error: ")
        assert done.stdout == ""


@pytest.fixture(scope="module")
def trained(place: Path) -> Result:
    """The whole run, into the folder `output`."""
    return run("train", "-c", place / "small.yaml", "-o", "export.precisions=[fp32]", "--json")


@pytest.mark.long
def test_pairs_to_a_verified_bundle_in_one_command(trained: Result, place: Path, root: Path) -> None:
    done = trained
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
    assert set(said["figures"]) == {f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 5)}
    assert bundle.manifest.facts["trained_steps"] == said["best"]
    assert bundle.manifest.name == "output"
    assert "| step | image_retrieval_recall@1" in (output / "report.md").read_text()
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((output / "tensorboard").iterdir())
    assert "pairs/s  left 0:00:00" in done.stderr


@pytest.mark.long
def test_a_resumed_run_takes_its_own_configuration(trained: Result, place: Path, tmp_path: Path) -> None:
    """Nothing is left to do but what is asked for on top."""
    shutil.copytree(place / "output", tmp_path / "output", symlinks=True)
    done = run("train", "--resume", tmp_path / "output", "-o", "run.steps=10")
    assert done.exit_code == 3, done.output
    assert "resuming after step 8" in done.stderr
    assert "output: 10 steps in " in done.stdout


@pytest.mark.long
def test_a_run_that_was_interrupted_says_how_to_go_on(place: Path) -> None:
    what = ["train", "-c", "small.yaml", "-o", "run.output=left alone", "-o", "run.steps=4000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tuwen", *what],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (place / "left alone" / "last").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert "tuwen train --resume 'left alone'\n" in told
    assert "Traceback" not in told


STEPS = 16


def torchrun(place: Path, name: str, *options: str, resume: bool = False) -> subprocess.Popen[str]:
    """Two processes that train the configuration of `place` into the folder `name`, as users start them."""
    what = ["--resume", name] if resume else ["-c", "small.yaml", "-o", f"run.output={name}", "-o", "run.batch=3"]
    what += [] if resume else ["-o", f"run.steps={STEPS}"]
    launch = [sys.executable, "-m", "torch.distributed.run", *(options or ("--standalone", "--nproc-per-node=2"))]
    return subprocess.Popen(
        [*launch, "-m", "tuwen", "train", *what],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return out + told


@pytest.mark.long
def test_torchrun_on_one_machine_and_on_two_and_after_a_kill(place: Path) -> None:
    said = ended(torchrun(place, "whole"))
    assert f"{STEPS} steps of 6 pairs, on 2 x cpu, fp32" in said
    assert said.count("skipped: ") == 1  # told once, whichever process met it; and no failure to torchrun
    assert "best: step " in said
    assert (place / "whole" / "report.md").exists()

    port = free_port()
    meeting = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}")
    for process in [torchrun(place, "nodes", *meeting) for _ in range(2)]:
        ended(process)
    assert losses(place / "nodes") == losses(place / "whole")

    process, log = torchrun(place, "killed"), place / "killed" / "log.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < 6:  # beyond the checkpoint of step 4
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    process.communicate(timeout=600)
    assert process.returncode != 0
    told = re.search(r"resuming after step (\d+)", ended(torchrun(place, "killed", resume=True)))
    assert told is not None
    assert int(told[1]) < STEPS
    assert losses(place / "killed") == losses(place / "whole")
