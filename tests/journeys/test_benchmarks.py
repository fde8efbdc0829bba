"""Benchmarks run, small: what they measure then is noise, what they check must hold."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tuwen

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = [pytest.mark.long, pytest.mark.journey]


def quick(name: str, folder: Path, *words: str) -> dict[str, object]:
    """What a benchmark writes with `--quick`."""
    package = str(Path(tuwen.__file__).parents[1])
    command = [sys.executable, str(BENCHMARKS / name), "--quick", *words, "--json", str(folder / "found.json")]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": package}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads((folder / "found.json").read_text())


@pytest.mark.skipif(not shutil.which("wrk"), reason="the load generator wrk is not here: apt install wrk")
def test_serve(tmp_path: Path) -> None:
    found = quick("serve.py", tmp_path)
    loads = [*found["texts"].values(), found["like"]]
    assert all(load["per_second"] > 0 and load["checked"] > 0 for load in loads)
    assert sum(load["not_2xx"] + load["lost"] + load["wrong"] for load in loads) == 0
    assert found["overload"]["refused"] > 0
    assert found["overload"]["in_time"]


def test_soak(tmp_path: Path) -> None:
    found = quick("soak.py", tmp_path)
    assert found["passed"]
    assert found["kills"] > 1
    assert min(found["searches"], found["uploads"], found["removals"]) > 0


def test_train(tmp_path: Path) -> None:
    found = quick("train.py", tmp_path)
    assert max(row["worst_loss_difference"] for row in found["rows"]) < 1e-5


def test_accelerator(tmp_path: Path) -> None:
    found = quick("accelerator.py", tmp_path, "--device", "cpu")
    exact = [row for row in found["rows"] if row["with"] == "onnxruntime cpu fp32"]
    assert {(row["part"], row["batch"]) for row in exact} == {(part, n) for part in ("image", "text") for n in (1, 4)}
    assert min(row["worst_cosine"] for row in exact) > 0.99999
    assert all(row["per_second"] > 0 for row in found["rows"])
