"""One batch over several processes: what each of them holds, seen by all, with gradients that come back.

Knows torch.distributed's process group where there is one; alone, everything is its own. Does not know losses.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


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
