"""Functions run by several processes that train together, as torchrun starts them; and what they do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from tuwen.training.gradients import Backward
from tuwen.training.loss import LOSSES

from .towers import inputs, keys, small_pair


def together(function: Callable[..., Any], folder: Path, *args: object, count: int = 2) -> list[Any]:
    """What each of `count` gloo processes saved: `function(rank, *args)`'s result."""
    multiprocessing.start_processes(
        _one, (function, str(folder), count, args), nprocs=count, start_method="fork"
    )  # forked: they need not import torch again
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


def _one(rank: int, function: Callable[..., Any], folder: str, count: int, args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    torch.save(function(rank, *args), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def gradients_of(rank: int, total: int, jobs: list[tuple[str, int]]) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """For each loss and chunk: the loss of this process' half of a batch, and the gradients after the exchange."""
    return [_gradients(rank, total, loss, chunk) for loss, chunk in jobs]


def _gradients(rank: int, total: int, loss: str, chunk: int) -> tuple[float, dict[str, torch.Tensor]]:
    pair = small_pair(loss=loss)
    half = total // 2
    rows = slice(rank * half, (rank + 1) * half)
    batch, (image_keys, text_keys) = inputs(total), keys(total, repeated=True)
    value = Backward(pair=DistributedDataParallel(pair), loss=LOSSES[loss], chunk=chunk)(
        batch.rows(rows.start, rows.stop), (image_keys[rows], text_keys[rows])
    )
    return float(value), {name: parameter.grad for name, parameter in pair.named_parameters()}
