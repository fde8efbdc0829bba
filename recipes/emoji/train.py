"""Trains both towers of tuwen-emoji. Resumes by itself from the last checkpoint.

Each emoji has an anchor, a learned vector that is thrown away at the end. Pictures and captions are both pulled
to the anchors of what they show and mean (softmax over all emoji, not only those in the batch), and to each other
(softmax within the batch). Once the pictures stand, captions leave the anchors and are pulled to where the pictures
of what they mean have lately been. Nowhere is another picture or caption of the same emoji a negative.
"""

import dataclasses
import json
import math
import resource
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from recipes.emoji.captions import Captions
from recipes.emoji.data import Art, Batch, Batches, pad
from recipes.emoji.model import DualEncoder, Shape
from recipes.emoji.tokenizer import CONTEXT, train_tokenizer
from recipes.emoji.words import read_emoji
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

OUT = -1e4
"""a logit that takes no part."""


FOLLOW_EVERY = 4
"""steps between two updates of the moving average."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that fixes a run."""

    seed: int = 7
    steps: int = 1600
    fall: tuple[float, float] = (1017.5, 1850)
    """the step from which the rate falls, and the one at which it would be nothing."""
    warm_up: int = 100
    rate: float = 3e-3
    weight_decay: float = 0.02
    pictures: int = 128
    texts: int = 448
    scenes: float = 0.1
    average: float = 0.995
    """of the moving average of the weights, which is what is kept."""
    anchor_scale: float = 14.0
    """turns cosines with anchors into logits. Low on purpose: a scale of 30 is content with cosines of 0.4, and
    then a picture and its caption, both at 0.4 of their anchor, need not be near each other."""
    direct_from: int = 600
    """the step from which captions are pulled to the pictures' own places instead of the anchors."""
    direct_scale: float = 20.0
    """turns cosines with those places into logits."""
    follow: float = 0.3
    """how far a place moves towards each new picture of its emoji."""
    save_every: int = 100
    threads: int = 2


class Run:
    """A training run in a folder."""

    def __init__(self, config: Config, work: Path) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.work, self.step, self.seconds = config, work, 0, 0.0
        self.captions = Captions(read_emoji())
        self.tokenizer = _tokenizer(work / "tokenizer.json", self.captions)
        self.shape = Shape(self.tokenizer.get_vocab_size(), CONTEXT)
        self.rng = np.random.default_rng(config.seed)
        art = Art(self.captions.emoji, work)
        self.batches = Batches(art, self.captions, self.tokenizer, self.shape.image_size, self.rng)
        self.model = DualEncoder(self.shape).to(memory_format=torch.channels_last)
        self.anchors = nn.Parameter(torch.randn(len(self.captions.emoji), self.shape.dim) * 0.1)
        self.average = deepcopy(self.model)
        self.places = torch.empty(0)
        self.optimizer = torch.optim.AdamW(
            groups(self.model, config.weight_decay, self.anchors), lr=config.rate, betas=(0.9, 0.98), fused=True
        )

    def train(self) -> None:
        """Run all steps that are left."""
        self.resume()
        self.model.train()
        while self.step < self.config.steps:
            began = time.perf_counter()
            batch = self.batches.next(self.config.pictures, self.config.texts, self.config.scenes)
            losses = self._advance(batch)
            self.seconds += time.perf_counter() - began
            if self.step % 20 == 0:
                self._log(losses)
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self._save()

    def _advance(self, batch: Batch) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * rate_at(self.step, self.config)
        if self.step == self.config.direct_from:
            self.places = normalize(self.anchors.detach(), dim=-1)
        losses = self._losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), self.anchors], 1.0)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return {name: loss.item() for name, loss in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        pixels = batch.pixels.contiguous(memory_format=torch.channels_last)
        images = normalize(self.model.vision(pixels), dim=-1)
        texts = normalize(encode(self.model.text, batch.texts, 128), dim=-1)
        anchors = normalize(self.anchors, dim=-1)
        aims = anchors * self.config.anchor_scale
        if len(self.places):
            self._move(batch.shown, images.detach())
            aims = self.places * self.config.direct_scale
        scale = self.model.log_scale.clamp(max=math.log(60)).exp()
        hidden = batch.unseen.float() * OUT
        image_logits = self.config.anchor_scale * images @ anchors.T
        text_logits = texts @ aims.T + hidden
        pairs = scale * texts @ images.T
        positive = (batch.meant > 0).float() @ (batch.shown > 0).float().T > 0
        pairs = pairs + ((hidden @ batch.shown.T) < 0) * ~positive * OUT
        return {
            "image": cross_entropy(image_logits, batch.shown),
            "text": cross_entropy(text_logits, batch.meant),
            "pairs": 0.5 * (any_of(pairs, positive) + any_of(pairs.T, positive.T)),
        }

    def _move(self, shown: Tensor, images: Tensor) -> None:
        """Move the places of what stands alone in a picture towards that picture."""
        alone = (shown == 1).any(-1)
        positions = shown[alone].argmax(-1)
        self.places[positions] = normalize(
            torch.lerp(self.places[positions], images[alone], self.config.follow), dim=-1
        )

    @torch.no_grad()
    def _follow(self) -> None:
        if self.step % FOLLOW_EVERY:
            return
        keep = min(self.config.average, (1 + self.step) / (10 + self.step)) ** FOLLOW_EVERY
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        for mine, theirs in zip(self.average.buffers(), self.model.buffers(), strict=True):
            mine.copy_(theirs)

    def _log(self, losses: dict[str, float]) -> None:
        line = {"step": self.step, **{k: round(v, 4) for k, v in losses.items()}}
        line |= {"scale": round(self.model.log_scale.exp().item(), 2), "seconds": round(self.seconds, 1)}
        line["cpu"] = round(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), 1)
        print(json.dumps(line), flush=True)

    def _save(self) -> None:
        state = {
            "config": dataclasses.asdict(self.config), "shape": dataclasses.asdict(self.shape),
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "anchors": self.anchors.data, "places": self.places,
            "optimizer": self.optimizer.state_dict(), "rng": self.rng.bit_generator.state,
            "order": self.batches.order, "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        aside = self.work / "saving.pt"
        torch.save(state, aside)
        aside.replace(self.work / "last.pt")
        kept = {key: state[key] for key in ("shape", "average", "step", "seconds", "config")}
        torch.save(kept, self.work / f"step-{self.step:05d}.pt")

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        path = self.work / "last.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.anchors.data.copy_(state["anchors"])
        self.places = state.get("places", self.places)
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.batches.order, self.step, self.seconds = state["order"], state["step"], state["seconds"]


def rate_at(step: int, config: Config) -> float:
    """The share of the learning rate: a linear rise, a plateau, a linear fall to nothing."""
    start, end = config.fall
    fall = (end - step) / (end - start)
    return min((step + 1) / config.warm_up, 1.0, fall)


def groups(model: nn.Module, weight_decay: float, *others: nn.Parameter) -> list[dict[str, object]]:
    """Matrices and kernels decay; tables, biases, norms and `others` do not."""
    named = list(model.named_parameters())
    plain = [p for name, p in named if p.ndim < 2 or "tokens" in name or "positions" in name]
    decayed = [p for name, p in named if not (p.ndim < 2 or "tokens" in name or "positions" in name)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": [*plain, *others], "weight_decay": 0.0}]


def any_of(logits: Tensor, positive: Tensor) -> Tensor:
    """Minus the logarithm of the share that all positives have together; rows without a positive don't count."""
    rows = positive.any(-1)
    chosen = log_softmax(logits[rows], -1).masked_fill(~positive[rows], OUT)
    return -chosen.logsumexp(-1).mean()


def encode(tower: nn.Module, texts: Sequence[list[int]], at_once: int) -> Tensor:
    """Texts to vectors in the given order, computed in chunks of like length."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    chunks = [tower(*pad([texts[row] for row in order[i : i + at_once]])) for i in range(0, len(order), at_once)]
    back = torch.empty(len(order), dtype=torch.int64)
    back[order] = torch.arange(len(order))
    return torch.cat(chunks)[back]


def _tokenizer(path: Path, captions: Captions) -> Tokenizer:
    if not path.exists():
        train_tokenizer(captions.texts()).save(str(path))
    return Tokenizer.from_file(str(path))
