"""`tuwen convert`, as typed, and what it wrote beside the bundle in `tuwen bench`."""

import json
import shlex

import pytest

from cli.running import run
from shapes import shape, written_shapes


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("convert") / "demo-mnn"
    return folder, run("convert", "demo", "--to", "mnn", "-o", folder, "--json")


def test_convert(converted, root) -> None:
    folder, result = converted
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert shape(document) == written_shapes(root)["convert"]
    assert (document["to"], document["precision"], document["towers"]) == ("mnn", "fp32", ["vision", "text"])
    assert all(check["passed"] for check in document["checks"])
    assert "tuwen: vision tower to mnn, by mnn " in result.stderr
    assert (folder / "vision.mnn").stat().st_size > 10_000


@pytest.mark.long
def test_bench_has_it_beside_the_bundle(converted) -> None:
    folder, _ = converted
    few = ("--quick", "--batch", "1", "--threads", "1", "--runtime", "onnxruntime", "--workload", "five-fifty")
    result = run("bench", "demo", *few, "--converted", folder, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [row["runtime"] for row in document["jobs"]] == ["onnxruntime", "mnn"]
    assert [start["runtime"] for start in document["starts"]] == ["onnxruntime", "mnn"]
    twice = run("bench", "demo", "--converted", folder, "--converted", folder)
    assert twice.exit_code == 2
    assert "--converted" in twice.stderr


def test_a_dry_run_prints_the_command_and_runs_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("convert", "demo", "--to", "om", "--chip", "310P3", "--batch", "1", "--dry-run")
    assert result.exit_code == 0, result.output
    vision, text = map(shlex.split, result.stdout.splitlines())
    assert "--input_shape=pixel_values:1,3,64,64" in vision
    assert f"--output={tmp_path}/demo-om/text_bs1" in text
    assert "--soc_version=Ascend310P3" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("demo", "--to", "tensorrt"), 1, "trtexec"),
        (("demo", "--to", "om"), 2, "--chip"),
        (("nowhere", "--to", "mnn"), 1, "nowhere"),
        (("demo", "--to", "coreml"), 2, "'coreml'"),
    ],
)
def test_what_goes_wrong_is_said(arguments, code, message, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("convert", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == code
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []
