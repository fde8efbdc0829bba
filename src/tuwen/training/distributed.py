"""Training in several processes: rank, device, and exchange of values between processes.

The processes are started by torchrun; gradients go through DDP or FSDP. A single process needs none of this.
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
"""how long processes wait for each other, e.g. while the first one evaluates; a dead process is noticed at once"""
_LOST = ("connection", "peer", "timed out", "nccl", "gloo")


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun started; also valid before and after training."""
    return os.environ.get("RANK", "0") == "0"


def is_launched() -> bool:
    """Whether torchrun started this process; it treats every exit code but 0 as a failure and may restart all."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def barrier() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


def from_first(make: Callable[[], T]) -> T:
    """Call a function in the first process and return its result in all of them; the others wait."""
    if world() == 1:
        return make()
    made = [make() if rank() == 0 else None]
    dist.broadcast_object_list(made)
    found: T = made[0]  # type: ignore[assignment]  # the first process's
    return found


def from_all(own: dict[str, T]) -> dict[str, T]:
    """Merge the mappings of all processes; every process must call it."""
    if world() == 1:
        return own
    each: list[dict[str, T]] = [{} for _ in range(world())]
    dist.all_gather_object(each, own)
    return {name: value for part in each for name, value in part.items()}


def mean(numbers: Tensor) -> Tensor:
    """The mean of a tensor over all processes; every process must call it."""
    if world() == 1:
        return numbers
    total = numbers.clone()
    dist.all_reduce(total)
    return total / world()


def gathered(rows: Tensor) -> Tensor:
    """Gather the rows of all processes in the order of their ranks: (n, …) to (world · n, …).

    Every process must have the same number of rows. The gradient of a row is the sum over the losses of all processes,
    so that the mean of the processes' gradients is the gradient of the mean of their losses.
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
    """Join the processes that torchrun started, if any; yields the device of this process.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        InvalidInput: the device is unknown.
        RuntimeUnavailable: the device is not available.
        TuwenError: another process ended.
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
            "another process of this run ended; see its own message. Resume from the last checkpoint with --resume and "
            "the same number of processes"
        ) from error
    finally:
        dist.destroy_process_group()


def together(module: nn.Module, device: torch.device, *, find_unused: bool = False) -> nn.Module:
    """Wrap a module so that gradients are the mean over all processes.

    Args:
        module: the module, on its device.
        device: that device.
        find_unused: whether a step may leave parameters without gradients.
    """
    if world() == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=find_unused)


def _device(wanted: str) -> torch.device:
    """The device by name; without a number, that of this process's local rank."""
    name = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        hint = "use auto, cpu, cuda or cuda:1"
        raise InvalidInput(
            f"unknown device run.device={wanted!r}: {hint}", value=wanted, where="run.device", hint=hint
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        hint = "use auto or cpu"
        raise RuntimeUnavailable(
            f"run.device={wanted!r}: torch finds no CUDA device on this machine; {hint}",
            value=wanted,
            where="run.device",
            hint=hint,
        )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device
