"""Compute the gradients of a batch: of pairs with a built-in loss, or of a user-defined objective."""

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
    """Computes the gradients of a batch of pairs.

    Attributes:
        pair: the towers, wrapped for several processes if there are any.
        loss: a function of vectors and keys.
        autocast: the precision in which the towers compute.
        chunk: number of pairs that pass through the towers at once; 0: the whole batch.
    """

    pair: nn.Module
    loss: Loss
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    chunk: int = 0

    def __call__(
        self, inputs: Inputs, keys: tuple[Tensor, Tensor], factor: Tensor | float = 1.0, *, last: bool = True
    ) -> Tensor:
        """Add the gradients of a batch to the existing ones.

        Args:
            inputs: the batch.
            keys: keys of its images and of its texts, (n,) int64 each.
            factor: factor for the gradients: the share of this batch, times the scale of fp16.
            last: whether an optimiser step follows; if not, processes do not exchange gradients yet.

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
        """Compute a chunk again, with gradients; the last chunk also receives those of scale and bias."""
        ours, rows = self._vectors(chunk), slice(first, first + len(chunk))
        ends = [(ours.images, whole.images.grad[rows]), (ours.texts, whole.texts.grad[rows])]  # type: ignore[index]  # the loss used both
        if final:
            leaves = ((ours.scale, whole.scale), (ours.bias, whole.bias))
            ends += [
                (end, leaf.grad)
                for end, leaf in leaves
                if end is not None and leaf is not None and leaf.grad is not None
            ]
        trained = [(end, asked) for end, asked in ends if end.requires_grad]  # a whole tower may be locked
        if trained:
            torch.autograd.backward([end for end, _ in trained], [asked for _, asked in trained])

    def _vectors(self, inputs: Inputs) -> Vectors:
        with self.autocast():
            vectors: Vectors = self.pair(inputs)
        return vectors


@contextmanager
def exchange(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Decide whether processes exchange gradients in the backward passes within this block."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)
        yield
    elif isinstance(module, DistributedDataParallel) and not wanted:
        with module.no_sync():
            yield
    else:
        yield


def _leaves(parts: list[Vectors]) -> Vectors:
    """Join the vectors of all chunks as leaf tensors, on which the loss leaves its gradients."""
    bias = parts[0].bias
    return Vectors(
        images=torch.cat([part.images for part in parts]).requires_grad_(),
        texts=torch.cat([part.texts for part in parts]).requires_grad_(),
        scale=parts[0].scale.clone().requires_grad_(),
        bias=None if bias is None else bias.clone().requires_grad_(),
    )


Gradients: TypeAlias = Callable[[Any, Tensor, bool], Tensor]
"""Adds the gradients of a batch, times a share; the flag says whether a step follows. Returns the loss."""

_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def of_pairs(config: TrainConfig, pair: Pair, device: torch.device) -> Gradients:
    """Gradients of pairs with a built-in loss; with `run.fsdp`, the weights are sharded among the processes."""
    called = wrapped(pair, device, sharded=config.run.fsdp)
    autocast = _autocast(config.run.precision, device)
    loss, chunk, dedupe = LOSSES[config.loss.kind], config.run.chunk or 0, config.loss.dedupe
    backward = Backward(pair=called, loss=loss, autocast=autocast, chunk=chunk)

    def gradients(batch: Batch, share: Tensor, last: bool) -> Tensor:
        inputs = Inputs(batch.pixels.to(device), batch.ids.to(device), batch.mask.to(device))
        return backward(inputs, _keys(batch, device, dedupe=dedupe), share, last=last)

    return gradients


def of_objective(config: TrainConfig, objective: Objective, device: torch.device) -> Gradients:
    """Gradients of a user-defined objective."""
    called = together(objective, device, find_unused=True)
    autocast = _autocast(config.run.precision, device)

    def gradients(batch: Any, share: Tensor, last: bool) -> Tensor:  # noqa: ANN401  (the objective's own batch type)
        with exchange(called, last):
            with autocast():
                loss: Tensor = called(batch)
            (loss * share).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return gradients


def _keys(batch: Batch, device: torch.device, *, dedupe: bool) -> tuple[Tensor, Tensor]:
    """The keys by which equal images and texts are recognised; without `dedupe`, all keys differ."""
    if dedupe:
        return batch.image_keys.to(device), batch.text_keys.to(device)
    numbers = torch.arange(len(batch), device=device) + rank() * len(batch)
    return numbers, numbers


def _autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    if precision == "fp32":
        return nullcontext
    return partial(torch.autocast, device.type, dtype=_REDUCED[precision])
