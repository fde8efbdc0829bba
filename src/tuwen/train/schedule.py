"""The learning rate of each step: a linear warm-up, then half a cosine, or a plateau and a linear cooldown.

A function of the step alone. Knows steps. Does not know epochs or data.
"""

from dataclasses import dataclass
from math import ceil, cos, pi

import torch

from tuwen.errors import InvalidInput
from tuwen.train.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The course of the learning rate.

    Attributes:
        steps: of the whole run.
        warmup: how many of them lead up from `start`; fewer than `steps`.
        start: the rate of the first step, where there is a warm-up.
        peak: the rate after it.
        end: what the rate comes down to.
        cooldown: how many of the last steps lead there from the peak, in a line; None: a cosine after the warm-up.
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
        """How far the rate still is from its end, of 1, after the warm-up."""
        left = max(self.steps - step, 0)
        if self.cooldown is not None:
            return min(left / self.cooldown, 1.0)
        return (1 - cos(pi * left / (self.steps - self.warmup))) / 2

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Give every group its share of the step's rate; returns that rate."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        return rate


def planned(config: TrainConfig, batches: int) -> Schedule:
    """The course of a whole run; `batches`: how many an epoch has.

    Raises:
        InvalidInput: the warm-up takes the whole run, or it and the cooldown more than that.
    """
    run, schedule, peak = config.run, config.schedule, config.optimizer.lr
    epoch = batches / config.optimizer.accumulate
    steps = run.steps or max(1, (run.epochs or 1) * batches // config.optimizer.accumulate)
    warmup = schedule.warmup_steps or round((schedule.warmup_epochs or 0) * epoch)
    cooldown = schedule.cooldown_steps or ceil((schedule.cooldown_epochs or 0) * epoch)
    if warmup >= steps:
        raise InvalidInput(
            f"schedule: a warm-up of {warmup:,} steps leaves nothing of a run of {steps:,}: "
            "shorten it, or lengthen the run"
        )
    if warmup + cooldown > steps:
        raise InvalidInput(
            f"schedule: a warm-up of {warmup:,} steps and a cooldown of {cooldown:,} do not fit into a run of "
            f"{steps:,}: shorten one of them, or lengthen the run"
        )
    end = peak if schedule.name == "constant" and not cooldown else schedule.eta_min
    return Schedule(
        steps=steps, warmup=warmup, start=schedule.warmup_lr, peak=peak, end=end, cooldown=cooldown or None
    )
