"""The learning rate of each step: a linear warm-up, then half a cosine. A function of the step alone.

Knows steps. Does not know epochs or data.
"""

from dataclasses import dataclass
from math import cos, pi

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
        end: what the cosine comes down to.
    """

    steps: int
    warmup: int
    start: float
    peak: float
    end: float

    def rate(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warmup:
            return self.start + (self.peak - self.start) * step / self.warmup
        turned = (step - self.warmup) / (self.steps - self.warmup)
        return self.end + (self.peak - self.end) * (1 + cos(pi * min(turned, 1.0))) / 2

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Give every group its share of the step's rate; returns that rate."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        return rate


def planned(config: TrainConfig, batches: int) -> Schedule:
    """The course of a whole run; `batches`: how many an epoch has.

    Raises:
        InvalidInput: the warm-up takes the whole run.
    """
    run, schedule, peak = config.run, config.schedule, config.optimizer.lr
    steps = run.steps or max(1, (run.epochs or 1) * batches // config.optimizer.accumulate)
    warmup = schedule.warmup_steps or round((schedule.warmup_epochs or 0) * batches / config.optimizer.accumulate)
    if warmup >= steps:
        raise InvalidInput(
            f"schedule: a warm-up of {warmup:,} steps leaves nothing of a run of {steps:,}: "
            "shorten it, or lengthen the run"
        )
    end = schedule.eta_min if schedule.name == "cosine" else peak
    return Schedule(steps=steps, warmup=warmup, start=schedule.warmup_lr, peak=peak, end=end)
