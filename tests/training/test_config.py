"""What a configuration may be, and which keys exclude each other."""

from pathlib import Path
from typing import get_args

import pytest

from tuwen.errors import InvalidInput
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import config_of

LEAST = {"model": {"source": "openclip:ViT-B-32"}, "data": {"train": "./mscoco/train"}, "run": {"epochs": 3}}


def made(*overrides: str) -> TrainConfig:
    return config_of(LEAST, overrides)


def test_the_least_that_must_be_said() -> None:
    config = made()
    assert [source.path for source in config.data.train] == [Path("mscoco/train")]
    with pytest.raises(InvalidInput) as raised:
        config_of({})
    assert raised.value.value == ("model", "data", "run")


def test_sources_are_paths_or_more_and_may_be_mixed() -> None:
    config = made("data.train=[./a, {path: b.jsonl, captions: {en: caption_en, zh: caption_zh}}]")
    first, second = config.data.train
    assert (first.path, first.captions) == (Path("a"), None)
    assert second.captions == {"en": "caption_en", "zh": "caption_zh"}
    assert made("data.train={path: b.tsv, language: zh}").data.train[0].language == "zh"


@pytest.mark.parametrize("locked", [0, 6, "all"])
def test_blocks_are_locked_by_number_or_all(locked: int | str) -> None:
    assert made(f"model.lock_image={locked}").model.lock_image == locked


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["run.steps=10"], "run"),
        (["run.epochs=null"], "run"),
        (["run.chunk=512"], "run"),
        (["run.save_steps=5", "run.save_epochs=1"], "run"),
        (["schedule.warmup_steps=5", "schedule.warmup_epochs=1"], "schedule"),
        (["evaluate.steps=5", "evaluate.epochs=1"], "evaluate"),
        (["model.scratch=true", "model.weights=x.pt"], "model"),
        (["model.overrides.width=64"], "model"),
        (["augment.scale=[0.9, 0.5]"], "augment"),
        (["data.train=[]"], "data.train"),
        (["data.train={path: x, language: zh, captions: {en: a}}"], "data.train.0"),
        (["data.train={path: x, language: zh, language_column: l}"], "data.train.0"),
        (
            ["data.train={path: x, captions: {zh: z}}", "data.languages={zh: 1, fr: 1, de: 2}"],
            "data",
        ),
        (["evaluate.templates=[a photo]"], "evaluate.templates.0"),
        (["optimizer.lr=.inf"], "optimizer.lr"),
        (["schedule.cooldown_steps=5"], "schedule"),
        (["data=null"], "data"),
        (["objective.source=python:a.b:c"], "the file"),
        (["objective.source=json"], "objective.source"),
    ],
)
def test_what_goes_not_together_is_told(overrides: list[str], key: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        made(*overrides)
    assert raised.value.value == (key,)


def test_every_key_says_what_it_is() -> None:
    def undescribed(model: type, place: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            below = [kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields")]
            if below:
                assert below[0].__doc__
                found += undescribed(below[0], f"{place}{name}.")
            elif not field.description:
                found.append(f"{place}{name}")
        return found

    assert undescribed(TrainConfig, "") == []


OWN = ("data=null", "objective.source=python:a.b:c")


def test_an_objective_of_ones_own_takes_the_place_of_data() -> None:
    config = made(*OWN, "objective.settings={texts: 3}")
    assert config.data is None
    assert config.objective.settings == {"texts": 3}


@pytest.mark.parametrize(
    ("unused", "said"),
    [("augment.flip=0.5", "augment"), ("run.chunk=8", "run.chunk"), ("run.fsdp=true", "run.fsdp")],
)
def test_what_an_objective_would_not_use_is_refused(unused: str, said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        made(*OWN, unused)
    assert str(raised.value).endswith(f" {said}")
