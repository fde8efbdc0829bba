"""Where all random generators of this process stand: taken, kept in a checkpoint, put back.

Knows Python's, numpy's and torch's. Does not know who draws from them.
"""

import random
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RandomState:
    """The generators of torch: of the CPU and, where training runs on one, of its device."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> Self:
        """As they stand."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)

    def restore(self) -> None:
        """Put them back."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


def everything(device: torch.device) -> dict[str, Any]:
    """The states of all generators, of types that `torch.load(weights_only=True)` reads."""
    torch_state = RandomState.now(device)
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  (whoever uses it must go on alike)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).copy()), place, has_gauss, gauss],
        "cpu": torch_state.cpu,
        "cuda": torch_state.cuda,
    }


def restore(states: dict[str, Any]) -> None:
    """Put back what `everything` took."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))  # noqa: NPY002
    RandomState(states["cpu"], states["cuda"]).restore()


def seed(number: int) -> None:
    """Begin all generators anew."""
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    torch.manual_seed(number)
