from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from tuwen.errors import Diverged, InvalidInput
from tuwen.models.sources import load_source
from tuwen.models.torchvision import import_open_clip
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import config_of
from tuwen.training.data import open_stream
from tuwen.training.loop import fit

from .runs import config, done, kill_after, losses, start, start_two, write_pairs
from .towers import small_towers


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


HARD = {"run": {"steps": 9, "ema": 0.9, "save_steps": 2, "chunk": 4}, "optimizer": {"accumulate": 3}}
"""With all that must be remembered: mean weights, accumulation, chunks, an epoch's end between checkpoints."""


def hard(data: Path, output: Path, **run: object):
    settings = config(data, output)
    tree = settings.model_dump(mode="json")
    for section, values in (*HARD.items(), ("run", run)):
        tree[section] |= values
    return config_of(tree)


def test_a_killed_run_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    whole, killed = hard(data, tmp_path / "whole"), hard(data, tmp_path / "killed")
    first = start(whole)
    kill_after(start(killed), tmp_path / "killed", 5)
    assert done(first) == [0]
    assert done(start(killed, resume=True)) == [0]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ours, theirs = (torch.load(tmp_path / name / "last" / "training.pt") for name in ("killed", "whole"))
    for part in ("weights", "average"):
        found, wanted = ours["stepper"][part], theirs["stepper"][part]
        found, wanted = found.get("mean", found), wanted.get("mean", wanted)
        assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.long
@pytest.mark.parametrize("fsdp", [False, True])
def test_one_of_two_processes_is_killed(data: Path, tmp_path: Path, fsdp: bool) -> None:
    run = {"batch": 3, "chunk": None, "fsdp": fsdp, "ema": None if fsdp else 0.9}
    whole, killed = hard(data, tmp_path / "whole", **run), hard(data, tmp_path / "killed", **run)
    assert done(*start_two(whole)) == [0, 0]
    left, gone = start_two(killed)
    kill_after(gone, tmp_path / "killed", 5)
    assert done(left) == [1]  # told, not hung
    assert done(*start_two(killed, resume=True)) == [0, 0]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.long
def test_two_processes_lose_as_one(data: Path, tmp_path: Path) -> None:
    """The same pairs in the same batches; order and shares are the stream's business, seen through the losses."""
    one, two = config(data, tmp_path / "one"), hard(data, tmp_path / "two", steps=8, batch=3, ema=None, chunk=None)
    tree = two.model_dump(mode="json")
    tree["optimizer"]["accumulate"] = 1
    two = config_of(tree)
    assert done(start(one)) == [0]
    assert done(*start_two(two)) == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def plain_losses(settings: TrainConfig, loss: Callable[..., torch.Tensor]) -> list[float]:
    """Open_clip's own model and a loss, torch's AdamW as open_clip's trainer sets it up, its cosine, its clamp."""
    towers, steps = small_towers(), settings.run.steps or 0
    vision, text = towers.vision.tower.train(), towers.text.tower.train()
    sigmoid = settings.loss.kind == "siglip"
    scale = torch.nn.Parameter(torch.tensor(10.0 if sigmoid else towers.scoring.scale).log())
    bias = torch.nn.Parameter(torch.tensor(-10.0))
    named = [*vision.named_parameters(), *text.named_parameters(), ("logit_scale", scale)]
    named += [("logit_bias", bias)] if sigmoid else []
    plain = [value for name, value in named if value.ndim < 2 or "bn" in name or "ln" in name or "bias" in name]
    rest = [value for _, value in named if all(value is not other for other in plain)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    stream, found = open_stream(settings, towers), list[float]()
    while len(found) < steps:
        for batch in stream:
            vectors = normalize(vision(batch.pixels), dim=-1), normalize(text(batch.ids), dim=-1)
            value = loss(*vectors, scale.exp(), *([bias] if sigmoid else []))
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_([value for _, value in named], 1.0)
            optimizer.step()
            schedule.step()
            scale.data.clamp_(0, torch.tensor(100.0).log())
            found.append(float(value.detach()))
    return found


def plain_settings(data: Path, output: Path, steps: int, **changes: Any) -> TrainConfig:
    run = {"batch": 6, "workers": 0, "log_every": 7, "device": "cpu", "steps": steps, "save_steps": steps}
    return config(
        data,
        output,
        run={"output": str(output)} | run,
        optimizer={"lr": 1e-3, "layer_decay": 1.0, "weight_decay": 0.2},
        schedule={"warmup_steps": None},
        **changes,
    )


def test_twenty_steps_are_those_of_a_plain_loop(data: Path, tmp_path: Path) -> None:
    settings = plain_settings(data, tmp_path, 20)
    fit(settings, silent)
    assert losses(tmp_path) == pytest.approx(plain_losses(settings, import_open_clip().ClipLoss()), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_sigmoid_s_steps_are_those_of_a_plain_loop(data: Path, tmp_path: Path, checkpointing: bool) -> None:
    settings = plain_settings(data, tmp_path, 4, loss={"kind": "siglip"}, model={"checkpointing": checkpointing})
    fit(settings, silent)
    assert losses(tmp_path) == pytest.approx(plain_losses(settings, import_open_clip().loss.SigLipLoss()), rel=1e-5)


@pytest.mark.long
def test_repeated_captions_are_negatives_where_dedupe_is_off(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs")
    for path in data.glob("*.txt"):
        path.write_text("the same", encoding="utf-8")
    found = {}
    for dedupe in (False, True):
        settings = plain_settings(data, tmp_path / str(dedupe), 4, loss={"dedupe": dedupe})
        fit(settings, silent)
        found[dedupe] = losses(settings.run.output)
    assert found[False] == pytest.approx(plain_losses(settings, import_open_clip().ClipLoss()), rel=1e-5)
    assert found[True] == [0.0] * 4  # nothing is left that a picture could be mistaken for


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_killed_run_in_half_precision(data: Path, tmp_path: Path, precision: str) -> None:
    whole, killed = (hard(data, tmp_path / name, precision=precision) for name in ("whole", "killed"))
    assert done(start(whole)) == [0]
    kill_after(start(killed), tmp_path / "killed", 5)
    assert done(start(killed, resume=True)) == [0]
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    scaler = torch.load(tmp_path / "killed" / "last" / "training.pt")["stepper"]["scaler"]
    assert bool(scaler) == (precision == "fp16")


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    settings = config(data, tmp_path, optimizer={"lr": 1e30, "clip": None})
    with pytest.raises(Diverged) as raised:
        fit(settings, silent)
    assert raised.value.where == tmp_path
    assert all(torch.isfinite(torch.tensor(losses(tmp_path))))
    assert not (tmp_path / "last").exists()


def test_another_runs_checkpoints_are_not_overwritten(data: Path, tmp_path: Path) -> None:
    settings = config(data, tmp_path, run={"output": str(tmp_path), "steps": 3, "batch": 6, "workers": 0})
    outcome = fit(settings, silent)
    assert (outcome.steps, outcome.best_step) == (3, 3)
    with pytest.raises(InvalidInput) as raised:
        fit(settings, silent)
    assert raised.value.value == tmp_path
    assert fit(settings, silent, resume=True).steps == 3  # nothing is left to do


def test_what_a_run_leaves_is_a_source(data: Path, tmp_path: Path) -> None:
    evaluate = {"pairs": str(data), "steps": 4}
    outcome = fit(config(data, tmp_path, evaluate=evaluate), silent)
    towers = load_source(str(tmp_path / "best"))
    assert towers.facts["trained_steps"] == outcome.best_step
    assert towers.scoring.kind == "softmax"
    state = torch.load(tmp_path / "last" / "training.pt")["stepper"]["weights"]
    if outcome.best_step == outcome.steps:
        assert all(torch.equal(value, state[name]) for name, value in towers.weights.items())
    assert set(outcome.metrics) == {f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 5, 10)}


def test_a_warm_up_must_leave_something(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        fit(config(data, tmp_path, schedule={"warmup_steps": 8}), silent)
    assert raised.value.value == 8
