"""From a batch to gradients on the weights: of pairs, by the losses over them, or by an objective of the run's own.

Knows devices, processes and precisions. Does not know optimisers.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tuwen.train import processes
from tuwen.train.backward import Backward, exchange
from tuwen.train.batch import Batch
from tuwen.train.config import TrainConfig
from tuwen.train.gather import rank
from tuwen.train.loss import LOSSES
from tuwen.train.objective import Objective
from tuwen.train.pair import Inputs, Pair

Gradients: TypeAlias = Callable[[Any, Tensor, bool], Tensor]
"""Add a batch's gradients, times a share, to those that are there; the flag: a step follows. Returns the loss."""

_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def of_pairs(config: TrainConfig, pair: Pair, device: torch.device) -> Gradients:
    """Pairs and the losses over them; where that is wanted, the pair is shared out among the processes."""
    called = processes.wrapped(pair, device, sharded=config.run.fsdp)
    autocast = _autocast(config.run.precision, device)
    loss, chunk, dedupe = LOSSES[config.loss.kind], config.run.chunk or 0, config.loss.dedupe
    backward = Backward(pair=called, loss=loss, autocast=autocast, chunk=chunk)

    def gradients(batch: Batch, share: Tensor, last: bool) -> Tensor:
        inputs = Inputs(batch.pixels.to(device), batch.ids.to(device), batch.mask.to(device))
        return backward(inputs, _keys(batch, device, dedupe=dedupe), share, last=last)

    return gradients


def of_objective(config: TrainConfig, objective: Objective, device: torch.device) -> Gradients:
    """The run's own loss."""
    called = processes.together(objective, device, find_unused=True)
    autocast = _autocast(config.run.precision, device)

    def gradients(batch: Any, share: Tensor, last: bool) -> Tensor:  # noqa: ANN401  (its own kind)
        with exchange(called, last):
            with autocast():
                loss: Tensor = called(batch)
            (loss * share).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return gradients


def _keys(batch: Batch, device: torch.device, *, dedupe: bool) -> tuple[Tensor, Tensor]:
    """What tells equal pictures and texts; all are different where that is not wanted."""
    if dedupe:
        return batch.image_keys.to(device), batch.text_keys.to(device)
    numbers = torch.arange(len(batch), device=device) + rank() * len(batch)
    return numbers, numbers


def _autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    if precision == "fp32":
        return nullcontext
    return partial(torch.autocast, device.type, dtype=_REDUCED[precision])
