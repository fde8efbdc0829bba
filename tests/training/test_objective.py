"""A loss of one's own in the trainer: pictures and texts of numbers, pulled to anchors that are thrown away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tuwen.errors import InvalidInput
from tuwen.models.sources import load_source
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import config_of
from tuwen.training.loop import fit
from tuwen.training.model import Inputs
from tuwen.training.objective import Objective

from .runs import done, kill_after, losses, start, start_two
from .towers import OVERRIDES, inputs

CLASSES = 5


class Numbers:
    """Batches of four pictures of some class each; from several generators they come by turns."""

    def __init__(self, *seeds: int) -> None:
        self.randoms, self.skipped = (
            [torch.Generator().manual_seed(seed) for seed in seeds],
            {"seven": "is no class"},
        )

    def __len__(self) -> int:
        return 3 * len(self.randoms)

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for place in range(len(self)):
            classes = torch.randint(CLASSES, (4,), generator=self.randoms[place % len(self.randoms)])
            parts = [inputs(1, seed=int(number)) for number in classes]
            rows = (torch.cat([getattr(part, name) for part in parts]) for name in ("pixels", "ids", "mask"))
            yield Inputs(*rows), classes

    def state(self) -> dict[str, Any]:
        return {"random": [random.get_state() for random in self.randoms]}

    def load_state(self, state: dict[str, Any]) -> None:
        for random, known in zip(self.randoms, state["random"], strict=True):
            random.set_state(known)


class ToAnchors(Objective):
    def __init__(self, pair: nn.Module, batches: Numbers, scale: float) -> None:
        super().__init__(pair, batches)
        self.scale = scale
        self.anchors = nn.Parameter(torch.randn(CLASSES, 32))
        self.register_buffer("batches_seen", torch.zeros(()))

    def forward(self, batch: tuple[Inputs, Tensor]) -> Tensor:
        self.batches_seen += 1
        vectors = self.pair(batch[0])
        return sum(
            cross_entropy(self.scale * rows @ self.anchors.T, batch[1]) for rows in (vectors.images, vectors.texts)
        )


def to_anchors(pair, run, part, *, scale: float = 4.0, seeds: int = 1) -> ToAnchors:
    return ToAnchors(pair, Numbers(*(part.rank + seed for seed in range(seeds))), scale)


def not_an_objective(pair, run, part) -> str:
    return "no"


def config(output: Path, function: str = "to_anchors", **run: Any) -> TrainConfig:
    tree = {
        "model": {"source": "openclip:ViT-B-32/openai", "scratch": True, "overrides": OVERRIDES},
        "objective": {"source": f"python:{__name__}:{function}"},
        "optimizer": {"lr": 3e-3},
        "run": {"output": str(output), "steps": 20, "batch": 4, "log_every": 1, "device": "cpu", "ema": 0.5} | run,
        "export": {"precisions": []},
    }
    return config_of(tree)


def silent(line: str) -> None:
    pass


def test_it_learns_and_what_is_kept_is_the_pair(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = fit(config(tmp_path), said.append)
    found = losses(tmp_path)
    assert sum(found[-4:]) < 0.8 * sum(found[:4])
    assert outcome.skipped == {"seven": "is no class"}
    assert any(line.startswith("objective its own") and line.endswith("160") for line in said)
    kept = torch.load(tmp_path / "last" / "training.pt")["stepper"]["objective"]
    assert set(kept) == {"anchors", "batches_seen"}
    assert kept["batches_seen"] == 20
    towers = load_source(str(tmp_path / "best"))
    assert towers.facts["trained_pairs"] == 80
    assert not [name for name in towers.weights if "anchors" in name]


@pytest.mark.long
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, killed = (config(tmp_path / name, steps=12, save_steps=3) for name in ("whole", "killed"))
    first = start(whole)
    kill_after(start(killed), tmp_path / "killed", 5)
    assert done(first) == [0]
    assert done(start(killed, resume=True)) == [0]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ours, theirs = (
        torch.load(tmp_path / name / "last" / "training.pt")["stepper"]["objective"] for name in ("killed", "whole")
    )
    assert torch.equal(ours["anchors"], theirs["anchors"])
    assert ours["batches_seen"] == theirs["batches_seen"] == 12


@pytest.mark.long
def test_two_processes_train_it_as_one(tmp_path: Path) -> None:
    """Each draws batches of its own; one process that adds up the gradients of both has the same losses."""
    tree = config(tmp_path / "one", steps=12, save_steps=100).model_dump(mode="json")
    tree["objective"]["settings"] = {"seeds": 2}
    tree["optimizer"]["accumulate"] = 2
    assert done(start(config_of(tree)), *start_two(config(tmp_path / "two", steps=12, save_steps=100))) == [0] * 3
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_a_run_goes_on_with_what_is_said_on_top(tmp_path: Path) -> None:
    fit(config(tmp_path, steps=2), silent)
    tree = config(tmp_path, steps=3).model_dump(mode="json")
    tree["optimizer"] |= {"weight_decay": 0.77, "betas": [0.5, 0.6]}
    fit(config_of(tree), silent, resume=True)
    groups = torch.load(tmp_path / "last" / "training.pt")["stepper"]["moments"]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.77, 0.0}
    assert {tuple(group["betas"]) for group in groups} == {(0.5, 0.6)}


def test_a_run_of_other_parameters_is_not_gone_on_with(tmp_path: Path) -> None:
    fit(config(tmp_path, steps=2), silent)
    tree = config(tmp_path, steps=3).model_dump(mode="json")
    tree["model"]["lock_text"] = "all"
    with pytest.raises(InvalidInput) as raised:
        fit(config_of(tree), silent, resume=True)
    assert raised.value.where == "model"


@pytest.mark.parametrize(
    "function",
    ["not_an_objective", "no_such"],
)
def test_what_is_no_objective_is_told(tmp_path: Path, function: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        fit(config(tmp_path, function), silent)
    assert function in str(raised.value)


def test_settings_that_it_does_not_take_are_told(tmp_path: Path) -> None:
    tree = config(tmp_path).model_dump(mode="json")
    tree["objective"]["settings"] = {"colour": "red"}
    with pytest.raises(InvalidInput) as raised:
        fit(config_of(tree), silent)
    assert "colour" in str(raised.value)
