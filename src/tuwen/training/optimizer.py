"""AdamW with layer-wise learning rates, and the learning-rate schedule.

Parameters are grouped by depth. Each group has a `share` of the learning rate that the schedule gives for a step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, cos, pi
from types import MappingProxyType

import torch
from torch import nn

from tuwen.errors import InvalidInput
from tuwen.training.config import OptimizerConfig, TrainConfig
from tuwen.training.model import Pair, blocks, placed

NO_OTHERS: Mapping[str, nn.Parameter] = MappingProxyType({})


@dataclass(slots=True)
class Group:
    """Parameters with the same learning rate and weight decay.

    Attributes:
        tower: `vision`, `text`, `scale` or `objective`.
        part: `embeddings`, `block 3`, `head`.
        share: factor for the learning rate: the layer decay to the power of the number of blocks that follow.
        decayed: whether the parameters have weight decay.
        parameters: the parameters.
        names: their names within the pair.
    """

    tower: str
    part: str
    share: float
    decayed: bool
    parameters: list[nn.Parameter] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def groups(pair: Pair, layer_decay: float, others: Mapping[str, nn.Parameter] = NO_OTHERS) -> list[Group]:
    """Group the trained parameters of a pair by depth.

    In a tower of n blocks, block i has the share layer_decay^(n - i), the embeddings before them layer_decay^(n + 1),
    and the layers after them 1, as do `others` (the parameters of an objective). Biases, norms, one-dimensional
    parameters and `others` have no weight decay. Locked parameters are in no group.
    """
    found: dict[tuple[str, int, bool], Group] = {}
    for tower, module in (("vision", pair.vision), ("text", pair.text)):
        count = len(blocks(module))
        for item in placed(module):
            if not item.parameter.requires_grad:
                continue
            decayed = item.parameter.ndim > 1 and not item.name.endswith("bias") and not _is_norm(item.owner)
            part, power = _part(item.depth, count)
            group = found.setdefault((tower, item.depth, decayed), Group(tower, part, layer_decay**power, decayed))
            group.parameters.append(item.parameter)
            group.names.append(f"{tower}.{item.name}")
    scale = {name: value for name, value in pair.named_parameters(recurse=False) if value.requires_grad}
    loose = [
        Group(tower, part, 1.0, False, list(named.values()), list(named))
        for tower, part, named in (("scale", "scale", scale), ("objective", "its own", others))
        if named
    ]
    return [*found.values(), *loose]


def adamw(trained: Sequence[Group], settings: OptimizerConfig, *, fused: bool = True) -> torch.optim.AdamW:
    """Create the optimiser; `fused` uses torch's fused implementation, which does not support sharded tensors."""
    entries = [
        {
            "params": group.parameters,
            "lr": settings.lr * group.share,
            "share": group.share,
            "weight_decay": settings.weight_decay if group.decayed else 0.0,
        }
        for group in trained
    ]
    return torch.optim.AdamW(entries, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused)


def table(trained: Sequence[Group], rate: float, weight_decay: float) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of a table to print, from inputs to outputs: tower, part, peak rate, weight decay, number of parameters."""
    towers = [group.tower for group in trained]
    for group in sorted(trained, key=lambda group: (towers.index(group.tower), group.part == "head")):
        numbers = sum(parameter.numel() for parameter in group.parameters)
        decay = f"{weight_decay:g}" if group.decayed else "0"
        yield group.tower, group.part, f"{rate * group.share:.3g}", decay, f"{numbers:,}"


def _part(depth: int, count: int) -> tuple[str, int]:
    """The name of a depth, and the exponent of the layer decay there."""
    if depth == 0:
        return "embeddings", count + 1
    return ("head", 0) if depth > count else (f"block {depth}", count - depth)


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The learning-rate schedule of a run.

    Attributes:
        steps: number of steps in the run.
        warmup: number of warm-up steps, fewer than `steps`.
        start: the rate of the first step, if there is a warm-up.
        peak: the rate after the warm-up.
        end: the rate at the end.
        cooldown: number of last steps in which the rate falls linearly from the peak to `end`; None: a cosine after the
            warm-up.
    """

    steps: int
    warmup: int
    start: float
    peak: float
    end: float
    cooldown: int | None = None

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warmup:
            return self.start + (self.peak - self.start) * step / self.warmup
        return self.end + (self.peak - self.end) * self._height(step)

    def _height(self, step: int) -> float:
        """The rate after the warm-up on a scale from 1 (peak) to 0 (end)."""
        left = max(self.steps - step, 0)
        if self.cooldown is not None:
            return min(left / self.cooldown, 1.0)
        return (1 - cos(pi * left / (self.steps - self.warmup))) / 2

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of every group for a step; returns the rate of the schedule."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        return rate


def planned(config: TrainConfig, batches: int) -> Schedule:
    """Plan the schedule of a run with `batches` batches per epoch.

    Raises:
        InvalidInput: the warm-up takes the whole run, or warm-up and cooldown together are longer than it.
    """
    run, schedule, peak = config.run, config.schedule, config.optimizer.lr
    epoch = batches / config.optimizer.accumulate
    steps = run.steps or max(1, (run.epochs or 1) * batches // config.optimizer.accumulate)
    warmup = schedule.warmup_steps or round((schedule.warmup_epochs or 0) * epoch)
    cooldown = schedule.cooldown_steps or ceil((schedule.cooldown_epochs or 0) * epoch)
    if warmup >= steps:
        hint = "shorten it, or lengthen the run"
        message = f"schedule: the warm-up of {warmup:,} steps takes the whole run of {steps:,}: {hint}"
        raise InvalidInput(message, value=warmup, where="schedule", hint=hint)
    if warmup + cooldown > steps:
        hint = "shorten one of them, or lengthen the run"
        message = (
            f"schedule: warm-up ({warmup:,} steps) and cooldown ({cooldown:,}) exceed the run of {steps:,}: {hint}"
        )
        raise InvalidInput(message, value=cooldown, where="schedule", hint=hint)
    end = peak if schedule.name == "constant" and not cooldown else schedule.eta_min
    return Schedule(steps=steps, warmup=warmup, start=schedule.warmup_lr, peak=peak, end=end, cooldown=cooldown or None)
