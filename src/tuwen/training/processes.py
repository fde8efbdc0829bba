"""Which process this is, on which device it trains, and what holds the gradients of all of them together.

Knows torchrun's environment, DDP and FSDP. Does not know what is trained.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict as whole
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from tuwen.errors import InvalidInput, RuntimeUnavailable, TuwenError
from tuwen.training.distributed import world
from tuwen.training.model import Pair, blocks

_WHOLE = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)
_PATIENCE = timedelta(hours=3)
"""how long processes wait for each other: for the first one, while it measures; whoever dies is noticed at once"""
_LOST = ("connection", "peer", "timed out", "nccl", "gloo")


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


def wrapped(pair: Pair, device: torch.device, *, sharded: bool) -> nn.Module:
    """What to call in place of the pair.

    Args:
        pair: on its device.
        device: that.
        sharded: whether every process keeps only a part of the weights, gradients and moments of every block.

    Raises:
        InvalidInput: sharded, but there is one process alone.
    """
    if sharded:
        if not dist.is_initialized():
            raise InvalidInput("run.fsdp shares the weights among processes: start them with torchrun, or leave it out")
        for block in (*blocks(pair.vision), *blocks(pair.text)):
            fully_shard(block)
        fully_shard(pair)
        return pair
    return together(pair, device)


def states(pair: Pair, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and moments, whole, on the CPU where they are sharded; every process must call it."""
    if isinstance(pair, FSDPModule):
        return (
            whole.get_model_state_dict(pair, options=_WHOLE),
            whole.get_optimizer_state_dict(pair, optimizer, options=_WHOLE),
        )
    return pair.state_dict(), optimizer.state_dict()


def load_states(pair: Pair, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]) -> None:
    """Put back what `states` took."""
    if isinstance(pair, FSDPModule):
        whole.set_model_state_dict(pair, weights, options=_WHOLE)
        whole.set_optimizer_state_dict(pair, optimizer, moments, options=_WHOLE)
    else:
        pair.load_state_dict(weights)
        optimizer.load_state_dict(moments)


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
