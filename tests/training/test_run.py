"""`tuwen.train` in Python: a configuration to a checkpoint, a report and a bundle."""

from pathlib import Path

import pytest
import yaml

import tuwen
from tuwen.bundle.bundle import read_bundle
from tuwen.errors import InvalidInput
from tuwen.models.sources import load_source

from .runs import config, tree, write_pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("run") / "pairs")


def test_a_run_gives_a_checkpoint_a_report_and_a_bundle(data: Path, tmp_path: Path) -> None:
    settings = tree(data, tmp_path / "out", evaluate={"pairs": str(data), "k": [1]})
    lines: list[str] = []
    result = tuwen.train(settings, ["run.steps=3", "export.precisions=[fp32]"], on_line=lines.append)
    assert isinstance(result, tuwen.TrainResult)
    assert (result.output, result.steps, result.skipped) == (tmp_path / "out", 3, {})
    assert all(0 <= value <= 1 for value in result.metrics.values())
    assert len(result.metrics) == 2
    assert result.seconds > 0
    assert lines
    assert load_source(str(result.checkpoint)).facts["trained_steps"] == result.best_step
    assert result.bundle is not None
    assert read_bundle(result.bundle).manifest.facts["trained_steps"] == result.best_step
    assert result.report is not None
    assert result.report.is_file()


def test_a_file_or_a_configuration_and_a_run_that_goes_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree(data, tmp_path / "file")), encoding="utf-8")
    assert tuwen.train(tmp_path / "run.yaml", ["run.steps=3"]).steps == 3
    resumed = tuwen.train(overrides=["run.steps=4"], resume=tmp_path / "file")
    assert (resumed.steps, resumed.bundle) == (4, None)
    assert tuwen.train(config(data, tmp_path / "typed"), ["run.steps=3"]).steps == 3


def test_what_cannot_be_trained(data: Path, tmp_path: Path) -> None:
    for arguments in ({}, {"config": tree(data, tmp_path), "resume": tmp_path}):
        with pytest.raises(InvalidInput):
            tuwen.train(**arguments)
    with pytest.raises(InvalidInput) as raised:
        tuwen.train(resume=tmp_path)
    assert raised.value.value == tmp_path
    with pytest.raises(InvalidInput):
        tuwen.train(tmp_path / "none.yaml")
