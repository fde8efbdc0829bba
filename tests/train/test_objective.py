"""A loss of one's own in the trainer: pictures and texts of numbers, pulled to anchors that are thrown away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tuwen.errors import InvalidInput
from tuwen.models.trained import load
from tuwen.train.config import TrainConfig
from tuwen.train.config_file import config_of
from tuwen.train.loop import train
from tuwen.train.objective import Objective
from tuwen.train.pair import Inputs

from .runs import done, kill_after, losses, start, start_two
from .towers import OVERRIDES, inputs

CLASSES = 5


class Numbers:
    """Batches of two pictures of a class, drawn by a generator of their own."""

    def __init__(self, seed: int) -> None:
        self.random, self.skipped = torch.Generator().manual_seed(seed), {"seven": "is no class"}

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for _ in range(len(self)):
            classes = torch.randint(CLASSES, (4,), generator=self.random)
            parts = [inputs(1, seed=int(number)) for number in classes]
            rows = (torch.cat([getattr(part, name) for part in parts]) for name in ("pixels", "ids", "mask"))
            yield Inputs(*rows), classes

    def state(self) -> dict[str, Any]:
        return {"random": self.random.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.random.set_state(state["random"])


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


def to_anchors(pair, run, part, *, scale: float = 4.0) -> ToAnchors:
    return ToAnchors(pair, Numbers(run.seed + part.rank), scale)


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
    outcome = train(config(tmp_path), said.append)
    found = losses(tmp_path)
    assert sum(found[-4:]) < 0.8 * sum(found[:4])
    assert outcome.skipped == {"seven": "is no class"}
    assert any(line.startswith("objective its own") and line.endswith("160") for line in said)
    kept = torch.load(tmp_path / "last" / "training.pt")["stepper"]["objective"]
    assert set(kept) == {"anchors", "batches_seen"}
    assert kept["batches_seen"] == 20
    towers = load(tmp_path / "best")
    assert towers.facts["trained_pairs"] == 80
    assert not [name for name in towers.weights if "anchors" in name]


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
def test_two_processes_train_it_together(tmp_path: Path) -> None:
    """Each draws its own batches; the anchors of both move alike, or the second half of the losses would part."""
    assert done(*start_two(config(tmp_path))) == [0, 0]
    found = losses(tmp_path)
    assert sum(found[-4:]) < 0.8 * sum(found[:4])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("not_an_objective", "returns str, not an instance of tuwen.train.objective.Objective"),
        ("no_such", "cannot be imported: "),
    ],
)
def test_what_is_no_objective_is_told(tmp_path: Path, function: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        train(config(tmp_path, function), silent)


def test_settings_that_it_does_not_take_are_told(tmp_path: Path) -> None:
    tree = config(tmp_path).model_dump(mode="json")
    tree["objective"]["settings"] = {"colour": "red"}
    with pytest.raises(InvalidInput, match=r"objective.settings: python:.*unexpected keyword argument 'colour'"):
        train(config_of(tree), silent)
