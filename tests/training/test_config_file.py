"""YAML and overrides in, one typed tree out; every problem told at once."""

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


def refusal(file: Path, *overrides: str) -> list[str]:
    with pytest.raises(InvalidInput) as raised:
        read_config(file, overrides)
    return str(raised.value).splitlines()


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
    assert "data.train" in refusal(file, listed, "data.train.2.path=./e")[1]


def test_all_problems_are_told_at_once(file: Path) -> None:
    lines = refusal(
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
    assert lines[0] == f"{file} has 10 problems:"
    told = dict(line.strip().split(": ", 1) for line in lines[1:])
    assert told["optimizer.lr"] == "is true: input should be a valid number"
    assert told["optimizer.learning_rate"].startswith("is no key (there are name, lr, betas")
    assert told["loss.kind"] == "is \"triplet\": input should be 'infonce' or 'siglip'"
    assert told["model.lock_image"] == "is \"some\": input should be a valid integer or input should be 'all'"
    assert told["model.overides"].startswith("is no key, did you mean overrides? (there are source, weights,")
    assert told["Global"].startswith("is no key (there are model, objective, data,")
    assert told["evaluate.pairs.0.path"] == "is missing"
    assert told["evaluate.pairs.0.captions.en"] == "is 3: input should be a valid string"
    assert told["run.batch"] == "is 0: input should be greater than or equal to 1"
    assert told["run.seed"] == "is 1.5: input should be a valid integer"


@pytest.mark.parametrize("override", ["optimizer.lr", "=3", "optimizer..lr=3", "optimizer.lr=[1"])
def test_an_override_that_is_none(file: Path, override: str) -> None:
    assert refusal(file, override)[0].startswith(f"-o {override}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run: {epochs: 3, epochs: 4}", "epochs stands twice"),
        ("run: [", "is no YAML"),
        ("- run", "must have sections"),
        ("", "must have sections"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    assert said in refusal(file)[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.yaml")[0]
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8" in refusal(tmp_path / "x.yaml")[0]


def test_a_value_that_json_has_not() -> None:
    with pytest.raises(InvalidInput, match="no text, number, list or mapping"):
        config_of({"model": {1, 2}})


def test_reading_a_configuration_loads_no_torch() -> None:
    code = "import sys, tuwen.training.config_file; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
