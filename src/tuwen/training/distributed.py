"""Several processes that train together: which one this is, on which device, and what they exchange.

Alone, a process has everything. The processes are those that torchrun started; gradients go through DDP or FSDP.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tuwen.errors import InvalidInput, RuntimeUnavailable, TuwenError

T = TypeVar("T")

_PATIENCE = timedelta(hours=3)
"""how long processes wait for each other: for the first one, while it measures; whoever dies is noticed at once"""
_LOST = ("connection", "peer", "timed out", "nccl", "gloo")


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the first of those that torchrun started; known before and after they train, too."""
    return os.environ.get("RANK", "0") == "0"


def is_launched() -> bool:
    """Whether torchrun started this process: to it any exit code but 0 is a failure, and it may start all anew."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def barrier() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        dist.barrier()


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; the others wait."""
    if world() == 1:
        return make()
    made = [make() if rank() == 0 else None]
    dist.broadcast_object_list(made)
    found: T = made[0]  # type: ignore[assignment]  # the first process's
    return found


def from_all(own: dict[str, T]) -> dict[str, T]:
    """What all processes have, in all of them; every process must call it."""
    if world() == 1:
        return own
    each: list[dict[str, T]] = [{} for _ in range(world())]
    dist.all_gather_object(each, own)
    return {name: value for part in each for name, value in part.items()}


def mean(numbers: Tensor) -> Tensor:
    """The mean over all processes of what each of them has; the same in all."""
    if world() == 1:
        return numbers
    total = numbers.clone()
    dist.all_reduce(total)
    return total / world()


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks: (n, …) to (world · n, …).

    Every process must have the same number. The gradient of a row is the sum of what all processes' losses ask of
    it, so that the mean over the processes' gradients is that of the mean of their losses.
    """
    if world() == 1:
        return rows
    result: Tensor = _Gathered.apply(rows)  # type: ignore[no-untyped-call]
    return result


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:  # noqa: ANN401  (autograd's context has no type)
        context.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.contiguous()
        dist.all_reduce(total)
        first = rank() * context.rows
        return total[first : first + context.rows]


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Among the processes that torchrun started, or alone; the device that this one trains on.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        RuntimeUnavailable: there is no such device.
        TuwenError: another process went away.
    """
    chosen = _device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # random states are taken and put back without naming a device
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield chosen
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield chosen
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in _LOST):
            raise
        raise TuwenError(
            "another process of this run went away: its own message says why; go on from the last checkpoint with "
            "--resume, in as many processes"
        ) from error
    finally:
        dist.destroy_process_group()


def together(module: nn.Module, device: torch.device, *, find_unused: bool = False) -> nn.Module:
    """What to call in place of a module, so that gradients are the mean over all processes.

    Args:
        module: on its device.
        device: that.
        find_unused: whether there may be parameters that a step does not reach.
    """
    if world() == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=find_unused)


def _device(wanted: str) -> torch.device:
    """The device by name; without a number, the one of this process' number on this machine."""
    name = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"run.device={wanted!r} is no device: write auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeUnavailable(
            f"run.device={wanted!r}: torch finds no CUDA device here; leave it at auto, or write cpu"
        )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device
