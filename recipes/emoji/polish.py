"""The second part of the training: the pictures stand still, and captions alone go on learning.

Captions cost half as much as pictures and have more to learn. Knows the first part. Does not touch
the image tower.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from recipes.emoji.augment import MEAN, STD
from recipes.emoji.gallery import picture
from recipes.emoji.glyphs import noto
from recipes.emoji.train import OUT, Run, encode, groups
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize


@dataclass(frozen=True, slots=True)
class Polish:
    """Everything that fixes the second part."""

    seed: int = 8
    steps: int = 900
    texts: int = 768
    scenes: float = 0.03
    rate: float = 2e-3
    warm_up: int = 30
    weight_decay: float = 0.02
    scale: float = 20.0
    """turns cosines with the pictures into logits."""
    average: float = 0.98
    views: int = 4
    """varied pictures of an emoji that its place is the mean of, beside the clean one, which counts as much."""
    save_every: int = 100


class TextRun:
    """Trains the text tower of a finished `Run`, and writes `final.pt` beside it. Resumes by itself."""

    def __init__(self, config: Polish, run: Run) -> None:
        self.config, self.run, self.step, self.seconds = config, run, 0, 0.0
        self.model, self.tower = run.average, run.average.text
        self.average = [parameter.detach().clone() for parameter in self.tower.parameters()]
        self.rng = run.batches.rng = np.random.default_rng(config.seed)
        self.optimizer = torch.optim.AdamW(
            groups(self.tower, config.weight_decay), lr=config.rate, betas=(0.9, 0.98), fused=True
        )

    def train(self) -> Path:
        """Run all steps that are left, and return the checkpoint."""
        self._resume()
        places = standing_places(self.run, self.config) * self.config.scale
        self.tower.train()
        while self.step < self.config.steps:
            began = time.perf_counter()
            loss = self._advance(places)
            self.seconds += time.perf_counter() - began
            if self.step % 20 == 0:
                print(
                    json.dumps({"polish": self.step, "text": round(loss, 4), "seconds": round(self.seconds)}),
                    flush=True,
                )
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self._save()
        return self.run.work / "final.pt"

    def _advance(self, places: Tensor) -> float:
        rate = min((self.step + 1) / self.config.warm_up, 1 - self.step / self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * rate
        ids, meant, unseen = self.run.batches.captions_alone(self.config.texts, self.config.scenes)
        texts = normalize(encode(self.tower, ids, 128), dim=-1)
        loss = cross_entropy(texts @ places.T + unseen.float() * OUT, meant)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        torch._foreach_lerp_(self.average, [p.detach() for p in self.tower.parameters()], 1 - self.config.average)
        return loss.item()

    def _save(self) -> None:
        state = {
            "tower": self.tower.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state, "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        _write(state, self.run.work / "polish.pt")
        whole = dict(self.model.state_dict())
        names = [f"text.{name}" for name, _ in self.tower.named_parameters()]
        whole |= dict(zip(names, self.average, strict=True))
        seconds = self.run.seconds + self.seconds
        config = asdict(self.run.config) | {"polish": asdict(self.config)}
        kept = {"average": whole, "shape": asdict(self.run.shape), "config": config, "seconds": seconds}
        _write(kept | {"step": self.run.step + self.step}, self.run.work / "final.pt")

    def _resume(self) -> None:
        path = self.run.work / "polish.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=False)
        self.tower.load_state_dict(state["tower"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.step, self.seconds = state["step"], state["seconds"]


def standing_places(run: Run, config: Polish) -> Tensor:
    """(emoji, dim) unit rows: where the finished image tower sees each emoji, in the gallery and elsewhere."""
    vision = run.average.vision.eval()
    count = len(run.captions.emoji)
    rng = run.batches.rng
    run.batches.rng = np.random.default_rng(config.seed)
    with torch.inference_mode():
        views = [normalize(_seen(vision, run, count), dim=-1) for _ in range(config.views)]
        clean = normalize(_clean(vision, run), dim=-1)
        places = normalize(clean + torch.stack(views).mean(0), dim=-1)
    run.batches.rng = rng
    return places.clone()


def _seen(vision: nn.Module, run: Run, count: int) -> Tensor:
    return torch.cat(
        [vision(run.batches.draw([[p] for p in range(i, min(i + 128, count))])) for i in range(0, count, 128)]
    )


def _clean(vision: nn.Module, run: Run) -> Tensor:
    draw, size = noto(), run.shape.image_size
    drawings = (draw(e) for e in run.captions.emoji)
    small = [np.asarray(picture(d).resize((size, size))) for d in drawings if d is not None]
    pixels = (torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255 - MEAN) / STD
    return torch.cat([vision(part) for part in pixels.split(128)])


def _write(state: dict[str, object], path: Path) -> None:
    aside = path.with_suffix(".saving")
    torch.save(state, aside)
    aside.replace(path)
