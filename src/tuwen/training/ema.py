"""The mean of the weights over the last steps, which often ranks better than the last weights.

Knows modules. Does not know what they are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a module's weights.

    Begins with the weights as they are. After step t the decay is at most (1 + t) / (10 + t), so that a short run
    does not end with the weights it began with.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._mean = {name: value.detach().clone() for name, value in _floats(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        current = dict(_floats(module))
        means = list(self._mean.values())
        torch._foreach_lerp_(means, [current[name].detach() for name in self._mean], 1 - decay)

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """The module with the mean as its weights, until the end of the block."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    def state(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"steps": self._steps, "mean": self._mean}

    def load_state(self, state: Mapping[str, object]) -> None:
        """Go on from a checkpoint of the same module."""
        steps, mean = state["steps"], state["mean"]
        assert isinstance(steps, int)
        assert isinstance(mean, dict)
        self._steps = steps
        for name, value in self._mean.items():
            value.copy_(mean[name])

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        for name, value in _floats(module):
            kept = value.detach().clone()
            value.copy_(self._mean[name])
            self._mean[name].copy_(kept)


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a state dictionary has: other buffers (masks, say) are no weights."""
    return ((name, value) for name, value in module.state_dict().items() if value.is_floating_point())
