"""Training steps on ViT-B/32's towers: tuwen's beside those of open_clip's own trainer, with the same losses.

    python benchmarks/train.py --batch 32 --steps 2 --rounds 5 --json train.json
    python benchmarks/train.py --device cuda --precision bf16 --batch 256 --steps 10

Three sides take turns: open_clip's `train_one_epoch`, tuwen's step on texts padded to 77 tokens, and the same on
texts cut to the longest of their batch, captions of 6 to 14 words. All begin with the same weights and see the
same batches, made before; a round is `--steps` steps. What decoding costs is not part of it: see `ingest.py`.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from measuring import finish, machine, table, take_turns
from torch import Tensor

from tuwen.models import openclip
from tuwen.models.towers import Towers
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import config_of
from tuwen.training.data import Batch
from tuwen.training.model import beginning
from tuwen.training.optimizer import Schedule
from tuwen.training.step import Stepper

RATE = 1e-5
WORDS = [
    "a",
    "the",
    "dog",
    "cat",
    "red",
    "blue",
    "house",
    "street",
    "runs",
    "on",
    "over",
    "two",
    "people",
    "white",
    "small",
    "tree",
    "car",
    "sits",
    "under",
    "sky",
]
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 16, "image_size": 64},
    "text_cfg": {"layers": 2, "width": 64, "heads": 2},
}
BARS = {"tuwen": 1.0, "tuwen, texts cut": 1.2}
"""how many times as fast as open_clip's trainer"""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    config = configuration(arguments)
    sides: dict[str, Any] = {"open_clip": OpenClip(arguments, config)}
    sides["tuwen"] = Tuwen(arguments, config, cut=False)
    sides["tuwen, texts cut"] = Tuwen(arguments, config, cut=True)
    ready = [batches(arguments, sides["open_clip"].towers, turn) for turn in range(arguments.rounds + 1)]
    timings = take_turns({name: partial(side.steps, ready) for name, side in sides.items()}, arguments.rounds)
    theirs = torch.tensor(sides["open_clip"].losses())
    rows = [
        {
            "what": name,
            "pairs_per_second": arguments.batch * arguments.steps / timings[name].median,
            "times_open_clip": timings[name].faster_than(timings["open_clip"]),
            "worst_loss_difference": float((torch.tensor(side.losses()) / theirs - 1).abs().max()),
        }
        for name, side in sides.items()
    ]
    print(table(rows))
    print("bars: 1.0 times, 1.2 times with texts cut, losses to 1e-5")
    settings = {key: getattr(arguments, key) for key in ("batch", "steps", "rounds", "device", "precision", "quick")}
    finish({"machine": machine(arguments.threads), **settings, "rows": rows}, arguments.json)


def configuration(arguments: argparse.Namespace) -> TrainConfig:
    model: dict[str, Any] = {"source": "openclip:ViT-B-32/openai", "scratch": True}
    return config_of(
        {
            "model": model | {"overrides": SMALL if arguments.quick else {}},
            "data": {"train": "none"},
            "optimizer": {"lr": RATE},
            "run": {"steps": 1, "batch": arguments.batch, "precision": arguments.precision},
        }
    )


def batches(arguments: argparse.Namespace, towers: Towers, turn: int) -> list[Batch]:
    """The same for every side: pictures of noise, captions of 6 to 14 words."""
    random, found = Random(turn), []
    size = (arguments.batch, 3, *towers.image_spec.size)
    for _ in range(arguments.steps):
        texts = [" ".join(random.choices(WORDS, k=random.randint(6, 14))) for _ in range(arguments.batch)]
        tokens = towers.to_tokens([f"{number} {text}" for number, text in enumerate(texts)])
        pixels = torch.randn(size, generator=torch.Generator().manual_seed(random.getrandbits(32)))
        ids, keys = torch.from_numpy(tokens.ids), torch.arange(arguments.batch)
        mask = torch.arange(ids.shape[1]) < torch.from_numpy(tokens.lengths)[:, None]
        found.append(Batch(pixels, ids, mask.long(), keys, keys))
    return found


class Tuwen:
    """A run's own step, with losses fetched at the end of a round, as a log does it."""

    def __init__(self, arguments: argparse.Namespace, config: TrainConfig, *, cut: bool) -> None:
        self._cut, self._losses = cut, list[float]()
        _, towers = beginning(config)
        assert towers.text_spec.cut_exact
        self._stepper = Stepper(config, towers, torch.device(arguments.device))
        self._schedule = Schedule(steps=10**9, warmup=0, start=0.0, peak=RATE, end=RATE)

    def steps(self, ready: list[list[Batch]], turn: int) -> None:
        rows = []
        for number, batch in enumerate(ready[turn]):
            length = int(batch.mask.sum(1).max()) if self._cut else batch.ids.shape[1]
            cut = Batch(batch.pixels, batch.ids[:, :length], batch.mask[:, :length], *keys(batch))
            rows.append(self._stepper.step([cut], self._schedule, number))
        self._losses += [float(row["loss"]) for row in rows]

    def losses(self) -> list[float]:
        return self._losses


def keys(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.image_keys, batch.text_keys


class OpenClip:
    """open_clip's model, loss and trainer as its `main` sets them up."""

    def __init__(self, arguments: argparse.Namespace, config: TrainConfig) -> None:
        open_clip = openclip.import_open_clip()
        from open_clip_train.train import train_one_epoch

        self._arguments, self._train = arguments, train_one_epoch
        _, self.towers = beginning(config)
        self._model = model_of(open_clip, self.towers, SMALL if arguments.quick else {}).to(arguments.device)
        self._loss = Recorded(open_clip.ClipLoss())
        self._optimizer = torch.optim.AdamW(groups(self._model), lr=RATE, betas=(0.9, 0.98), eps=1e-6)
        self._scaler = torch.amp.GradScaler(arguments.device) if arguments.precision == "fp16" else None
        self._settings = SimpleNamespace(
            device=arguments.device,
            precision={"fp32": "fp32", "bf16": "amp_bf16", "fp16": "amp"}[arguments.precision],
            batch_size=arguments.batch,
            accum_freq=1,
            distill=False,
            skip_scheduler=True,
            horovod=False,
            grad_clip_norm=None,
            log_every_n_steps=10,
            world_size=1,
            rank=0,
            log_local=False,
            wandb=False,
        )

    def steps(self, ready: list[list[Batch]], turn: int) -> None:
        loader = Loader((batch.pixels, batch.ids) for batch in ready[turn])
        loader.num_batches, loader.num_samples = len(loader), len(loader) * self._arguments.batch
        data = {"train": SimpleNamespace(set_epoch=lambda _: None, dataloader=loader)}
        self._train(self._model, data, self._loss, 0, self._optimizer, self._scaler, None, None, self._settings)

    def losses(self) -> list[float]:
        return [float(value) for value in self._loss.values]


class Loader(list[Any]):
    """Batches that are there already, with what the trainer asks of a loader."""

    num_batches: int
    num_samples: int


class Recorded(torch.nn.Module):
    """A loss that remembers what it gave."""

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss, self.values = loss, list[torch.Tensor]()

    def forward(self, *args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.loss(*args, **kwargs)
        self.values.append(found["contrastive_loss"].detach())
        return found


def model_of(open_clip: ModuleType, towers: Towers, changes: dict[str, Any]) -> torch.nn.Module:
    """open_clip's own model with the very weights that tuwen's towers begin with."""
    config = open_clip.get_model_config("ViT-B-32")
    for name, value in changes.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    config["quick_gelu"] = True
    model = open_clip.CustomTextCLIP(**config, output_dict=True)
    left = model.load_state_dict(dict(towers.weights), strict=False)
    assert (left.missing_keys, left.unexpected_keys) == (["logit_scale"], [])
    return model


def groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    plain = [value for name, value in named if value.ndim < 2 or any(k in name for k in ("bn", "ln", "bias"))]
    rest = [value for _, value in named if all(value is not other for other in plain)]
    return [{"params": plain, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.2}]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side takes its turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="e.g. cuda")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--quick", action="store_true", help="towers of two blocks: a first impression")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    main()
