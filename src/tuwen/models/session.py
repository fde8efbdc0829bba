"""A tower of a checkpoint in PyTorch, in the shape that the runtimes have: what a bundle is compared with.

Has the attributes and the `run` of `runtime/session.py`'s protocol, so that an encoder works on it as on any other
runtime. Does not know how a checkpoint is loaded, nor what the vectors are for.
"""

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
"""What PyTorch computes in by our name, and what `torch.autocast` calls it; None: as the weights are."""


class TorchSession:
    """A `Session` on PyTorch. Its module may be trained on between two runs: each runs it as it is by then."""

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
            inputs: what it takes, see `ports`.
            device: PyTorch's name: `cpu`, `cuda:1`, `mps`.
            precision: `fp32`, `bf16` or `fp16`; the last two by autocast, the weights stay as they are.
            threads: for computing on the CPU, of this whole process; None leaves them as they are.

        Raises:
            InvalidInput: there is no such precision.
            RuntimeUnavailable: there is no such device.
        """
        if precision not in COMPUTED:
            raise InvalidInput(f"torch does not compute in {precision!r}: choose {', '.join(COMPUTED)}")
        try:
            self._module = module.to(device)
        except (RuntimeError, AssertionError) as error:  # without CUDA it is the latter
            first = str(error).strip().splitlines()[0]
            raise RuntimeUnavailable(f"torch cannot compute on {device!r} here: {first}") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.precision = precision
        self.inputs = inputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute (n, dim) float32 for feeds of all inputs, by their names.

        The module is in eval mode meanwhile, and then again in the mode it was in.
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
    """What a tower takes: pixels, or ids with their mask where it reads one. Batch and length are dynamic."""
    if tower == "vision":
        return (Port("pixel_values", (None, 3, *towers.image_spec.size), np.dtype(np.float32)),)
    names = ("input_ids", "attention_mask") if towers.text_spec.mask else ("input_ids",)
    return tuple(Port(name, (None, None), np.dtype(np.int64)) for name in names)


def torch_session(
    towers: Towers, tower: Tower, *, device: str = "cpu", precision: str = "fp32", threads: int | None = None
) -> TorchSession:
    """One tower of a checkpoint, ready to run; arguments and errors as `TorchSession`."""
    module = towers.vision if tower == "vision" else towers.text
    return TorchSession(module, ports(towers, tower), device=device, precision=precision, threads=threads)
