"""YAML and overrides to one typed tree; all problems are reported together."""

import subprocess
import sys
from pathlib import Path

import pytest

from tuwen.errors import InvalidInput
from tuwen.training.config_file import config_of, dump_config, read_config

TEXT = """\
model: {source: "openclip:ViT-B-32"}
data: {train: ./mscoco/train}
optimizer: {lr: 4e-4, eps: 1e-8}   # as people write them, which YAML 1.1 takes for texts
run: {epochs: 120}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def refusal(file: Path, *overrides: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        read_config(file, overrides)
    return raised.value


def test_numbers_are_numbers(file: Path) -> None:
    assert (read_config(file).optimizer.lr, read_config(file).optimizer.eps) == (4e-4, 1e-8)


def test_overrides_win_and_are_typed_by_yaml(file: Path) -> None:
    config = read_config(
        file,
        [
            "optimizer.lr=5e-5",
            "data.train=[a, {path: b, language: zh}]",
            "model.lock_text=all",
            "data.languages.zh=2",
            "run.output=1=2",
        ],
    )
    assert config.optimizer.lr == 5e-5
    assert [source.path.name for source in config.data.train] == ["a", "b"]
    assert config.model.lock_text == "all"
    assert config.data.languages == {"zh": 2}
    assert config.run.output == Path("1=2")


def test_what_is_dumped_is_the_same_configuration(file: Path, tmp_path: Path) -> None:
    config = read_config(file, ["data.train=[{path: 图, language: zh}]", "run.ema=0.999"])
    again = tmp_path / "effective.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert read_config(again) == config
    assert "lr: 0.0004" in again.read_text(encoding="utf-8")


def test_an_override_within_a_list(file: Path) -> None:
    listed = "data.train=[./a, {path: ./b, language: zh}]"
    first, second = read_config(file, [listed, "data.train.1.path=./c", "data.train.0=./d"]).data.train
    assert (str(first.path), str(second.path), second.language) == ("d", "c", "zh")
    assert all(key.startswith("data.train") for key in refusal(file, listed, "data.train.2.path=./e").value)


def test_all_problems_are_told_at_once(file: Path) -> None:
    error = refusal(
        file,
        "optimizer.learning_rate=1",
        "optimizer.lr=true",
        "loss.kind=triplet",
        "model.lock_image=some",
        "model.overides=1",
        "Global.epochs=3",
        "evaluate.pairs=[{captions: {en: 3}}]",
        "run.batch=0",
        "run.seed=1.5",
    )
    assert error.where == str(file)
    assert set(error.value) == {
        *("optimizer.learning_rate", "optimizer.lr", "loss.kind", "model.lock_image", "model.overides", "Global"),
        *("evaluate.pairs.0.path", "evaluate.pairs.0.captions.en", "run.batch", "run.seed"),
    }
    _, *lines = str(error).splitlines()
    told = dict(line.strip().split(": ", 1) for line in lines)
    assert told.keys() == set(error.value)
    assert "'infonce' or 'siglip'" in told["loss.kind"]
    assert "layer_decay" in told["optimizer.learning_rate"]
    assert "overrides" in told["model.overides"]


@pytest.mark.parametrize("override", ["optimizer.lr", "=3", "optimizer..lr=3", "optimizer.lr=[1"])
def test_an_override_that_is_none(file: Path, override: str) -> None:
    assert refusal(file, override).value == override


@pytest.mark.parametrize("content", [b"run: {epochs: 3, epochs: 4}", b"run: [", b"- run", b"", b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "x.yaml"
    if content is not None:
        file.write_bytes(content)
    assert refusal(file).value == file


def test_a_value_that_json_has_not() -> None:
    with pytest.raises(InvalidInput):
        config_of({"model": {1, 2}})


def test_reading_a_configuration_loads_no_torch() -> None:
    code = "import sys, tuwen.training.config_file; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
