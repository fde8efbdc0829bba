"""The losses of the last steps, left on their device until somebody asks: to fetch each at once would stop it.

Knows what a step gives. Does not know where the numbers go.
"""

import torch
from torch import Tensor

from tuwen.train.gather import mean


class Pending:
    """Steps taken, of which nobody has seen the loss yet."""

    def __init__(self, epoch: float) -> None:
        """`epoch`: how many steps one has."""
        self._epoch = epoch
        self._rows: list[dict[str, Tensor | float]] = []

    def add(self, row: dict[str, Tensor | float]) -> None:
        """What a step gave: `loss`, `lr`, `scale`."""
        self._rows.append(row)

    def fetch(self, step: int) -> list[dict[str, float]]:
        """A line for each, the last of which is `step`'s; losses are the mean over all processes, which all ask."""
        rows, self._rows = self._rows, []
        losses = mean(torch.stack([torch.as_tensor(row["loss"]) for row in rows]).double()).tolist()
        scales = torch.stack([torch.as_tensor(row["scale"]) for row in rows]).tolist()
        numbers = range(step - len(rows) + 1, step + 1)
        return [
            {"step": number, "epoch": number / self._epoch, "loss": loss, "lr": float(row["lr"]), "scale": scale}
            for number, row, loss, scale in zip(numbers, rows, losses, scales, strict=True)
        ]
