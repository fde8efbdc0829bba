"""From a batch to gradients on the weights: of pairs, by the losses over them, or by an objective of the run's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from tuwen.training.checkpoint import RandomState
from tuwen.training.config import TrainConfig
from tuwen.training.data import Batch
from tuwen.training.distributed import rank, together
from tuwen.training.loss import LOSSES, Loss, Vectors
from tuwen.training.model import Inputs, Pair, wrapped
from tuwen.training.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward:
    """How a batch becomes gradients.

    Attributes:
        pair: the towers; where several processes train, what holds their gradients together.
        loss: of vectors and keys.
        autocast: what the towers compute in.
        chunk: how many pairs at a time; 0: the batch as a whole.
    """

    pair: nn.Module
    loss: Loss
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    chunk: int = 0

    def __call__(
        self, inputs: Inputs, keys: tuple[Tensor, Tensor], factor: Tensor | float = 1.0, *, last: bool = True
    ) -> Tensor:
        """Add a batch's gradients to those that are there.

        Args:
            inputs: the batch.
            keys: of its pictures and of its texts, (n,) int64 each.
            factor: what the gradients are multiplied by: the share of this batch, the scale of fp16.
            last: whether an optimiser's step follows; else processes do not exchange their gradients yet.

        Returns:
            The loss, a scalar without gradient.
        """
        if self.chunk and self.chunk < len(inputs):
            return self._in_chunks(inputs, keys, factor, last=last)
        with exchange(self.pair, last):
            loss = self.loss(self._vectors(inputs), *keys)
            (loss * factor).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _in_chunks(self, inputs: Inputs, keys: tuple[Tensor, Tensor], factor: Tensor | float, *, last: bool) -> Tensor:
        chunks = [inputs.rows(first, first + self.chunk) for first in range(0, len(inputs), self.chunk)]
        states, parts = [], []
        with torch.no_grad():
            for chunk in chunks:
                states.append(RandomState.now(inputs.pixels.device))
                parts.append(self._vectors(chunk))
        after = RandomState.now(inputs.pixels.device)
        whole = _leaves(parts)
        loss = self.loss(whole, *keys)
        (loss * factor).backward()  # type: ignore[no-untyped-call]
        for place, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
            final = place == len(chunks) - 1
            state.restore()
            with exchange(self.pair, last and final):
                self._again(chunk, whole, place * self.chunk, final=final)
        after.restore()
        return loss.detach()

    def _again(self, chunk: Inputs, whole: Vectors, first: int, *, final: bool) -> None:
        """Compute a chunk with gradients; what the loss asks of scale and bias goes through the last chunk."""
        ours, rows = self._vectors(chunk), slice(first, first + len(chunk))
        ends = [(ours.images, whole.images.grad[rows]), (ours.texts, whole.texts.grad[rows])]  # type: ignore[index]  # the loss used both
        if final:
            leaves = ((ours.scale, whole.scale), (ours.bias, whole.bias))
            ends += [
                (end, leaf.grad)
                for end, leaf in leaves
                if end is not None and leaf is not None and leaf.grad is not None
            ]
        trained = [(end, asked) for end, asked in ends if end.requires_grad]  # a tower may be locked as a whole
        if trained:
            torch.autograd.backward([end for end, _ in trained], [asked for _, asked in trained])

    def _vectors(self, inputs: Inputs) -> Vectors:
        with self.autocast():
            vectors: Vectors = self.pair(inputs)
        return vectors


@contextmanager
def exchange(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Whether the processes that train a module exchange the gradients of the backward pass within."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)
        yield
    elif isinstance(module, DistributedDataParallel) and not wanted:
        with module.no_sync():
            yield
    else:
        yield


def _leaves(parts: list[Vectors]) -> Vectors:
    """The vectors of all chunks, as if they were parameters: the loss leaves its gradients there."""
    bias = parts[0].bias
    return Vectors(
        images=torch.cat([part.images for part in parts]).requires_grad_(),
        texts=torch.cat([part.texts for part in parts]).requires_grad_(),
        scale=parts[0].scale.clone().requires_grad_(),
        bias=None if bias is None else bias.clone().requires_grad_(),
    )


Gradients: TypeAlias = Callable[[Any, Tensor, bool], Tensor]
"""Add a batch's gradients, times a share, to those that are there; the flag: a step follows. Returns the loss."""

_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def of_pairs(config: TrainConfig, pair: Pair, device: torch.device) -> Gradients:
    """Pairs and the losses over them; where that is wanted, the pair is shared out among the processes."""
    called = wrapped(pair, device, sharded=config.run.fsdp)
    autocast = _autocast(config.run.precision, device)
    loss, chunk, dedupe = LOSSES[config.loss.kind], config.run.chunk or 0, config.loss.dedupe
    backward = Backward(pair=called, loss=loss, autocast=autocast, chunk=chunk)

    def gradients(batch: Batch, share: Tensor, last: bool) -> Tensor:
        inputs = Inputs(batch.pixels.to(device), batch.ids.to(device), batch.mask.to(device))
        return backward(inputs, _keys(batch, device, dedupe=dedupe), share, last=last)

    return gradients


def of_objective(config: TrainConfig, objective: Objective, device: torch.device) -> Gradients:
    """The run's own loss."""
    called = together(objective, device, find_unused=True)
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
