"""Run a checkpoint's tower in PyTorch with the interface of a runtime session (see `runtime/session.py`)."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tuwen.bundle.manifest import Tower
from tuwen.errors import InvalidInput, RuntimeUnavailable
from tuwen.models.towers import Towers
from tuwen.types import Port

COMPUTED: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions by name, with the type for `torch.autocast`; None: no autocast."""


class TorchSession:
    """A `Session` on PyTorch. Its module may be trained between runs; each run uses its current weights."""

    runtime = "torch"

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: tuple[Port, ...],
        *,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        """Move the module to the device.

        Args:
            module: called with one tensor for each of `inputs`, in their order; returns (n, dim).
            inputs: its inputs, see `ports`.
            device: PyTorch's name, e.g. `cpu`, `cuda:1`, `mps`.
            precision: `fp32`, `bf16` or `fp16`; the last two by autocast, with weights in fp32.
            threads: threads for computing on the CPU, for the whole process; None leaves the setting as it is.

        Raises:
            InvalidInput: an unknown precision.
            RuntimeUnavailable: the device is not available.
        """
        if precision not in COMPUTED:
            raise InvalidInput(
                f"torch does not compute in {precision!r}; choose one of: {', '.join(COMPUTED)}", value=precision
            )
        try:
            self._module = module.to(device)
        except (RuntimeError, AssertionError) as error:  # without CUDA it is the latter
            first = str(error).strip().splitlines()[0]
            raise RuntimeUnavailable(f"torch cannot compute on {device!r}: {first}", value=device) from error
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.precision = precision
        self.inputs = inputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute (n, dim) float32 from all inputs, by name.

        The module is in eval mode meanwhile, and returns to its previous mode.
        """
        arguments = [torch.from_numpy(feeds[port.name]).to(self.device) for port in self.inputs]
        kind = COMPUTED[self.precision]
        reduced = nullcontext() if kind is None else torch.autocast(torch.device(self.device).type, dtype=kind)
        trained = [module for module in self._module.modules() if module.training]
        self._module.eval()
        try:
            with torch.no_grad(), reduced:
                output: NDArray[np.float32] = self._module(*arguments).float().cpu().numpy()
        finally:
            for module in trained:
                module.training = True
        return output


def ports(towers: Towers, tower: Tower) -> tuple[Port, ...]:
    """The inputs of a tower: pixels, or ids and, if it takes one, a mask. Batch and length are dynamic."""
    if tower == "vision":
        return (Port("pixel_values", (None, 3, *towers.image_spec.size), np.dtype(np.float32)),)
    names = ("input_ids", "attention_mask") if towers.text_spec.mask else ("input_ids",)
    return tuple(Port(name, (None, None), np.dtype(np.int64)) for name in names)


def torch_session(
    towers: Towers, tower: Tower, *, device: str = "cpu", precision: str = "fp32", threads: int | None = None
) -> TorchSession:
    """A session of one tower; arguments and errors as `TorchSession`."""
    module = towers.vision if tower == "vision" else towers.text
    return TorchSession(module, ports(towers, tower), device=device, precision=precision, threads=threads)
