"""Turn drawings into training images: backgrounds, scaling, rotation, crops, colours, and small scenes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

MEAN = STD = 0.5
"""pixels are scaled to -1..1."""


def compose(drawings: Sequence[Tensor], scenes: Sequence[Sequence[int]], size: int, rng: Generator) -> Tensor:
    """Draw each scene on its own background.

    Args:
        drawings: for each layer k, the drawings number k of the scenes: (n_k, 4, s, s), premultiplied RGBA in 0..1.
        scenes: for each layer k, the rows of the batch that its drawings belong to; layer 0 has all rows.
        size: side of the result in pixels.
        rng: the source of all random choices.

    Returns:
        (n, 3, size, size), normalised.
    """
    rows = len(scenes[0])
    counts = np.ones(rows, int)
    for layer in scenes[1:]:
        counts[list(layer)] += 1
    canvas = _grounds(rows, size, rng)
    for k, (art, layer) in enumerate(zip(drawings, scenes, strict=True)):
        index = np.asarray(layer)
        placed = _place(art, counts[index], k, size, rng)
        alpha = placed[:, 3:]
        where = torch.from_numpy(index)
        canvas[where] = placed[:, :3] + canvas[where] * (1 - alpha)
    return (_colours(canvas, rng) - MEAN) / STD


def _grounds(rows: int, size: int, rng: Generator) -> Tensor:
    """Random backgrounds: white or nearly white (half of them), grey, dark, coloured, or a gradient of two colours."""
    kind = rng.random((rows, 1))
    light = rng.uniform(0.92, 1.0, (rows, 3)) ** 1.0
    light = np.where(rng.random((rows, 1)) < 0.3, 1.0, light)
    grey = np.repeat(rng.random((rows, 1)), 3, axis=1)
    colour = rng.random((rows, 3))
    first = np.where(kind < 0.5, light, np.where(kind < 0.65, grey, colour))
    second = np.where(kind < 0.8, first, rng.random((rows, 3)))
    ramp = np.linspace(0, 1, size)
    turn = rng.uniform(0, 2 * np.pi, (rows, 1, 1))
    blend = (
        0.5 + 0.5 * (np.cos(turn) * (ramp[None, None] * 2 - 1) + np.sin(turn) * (ramp[None, :, None] * 2 - 1)) / 1.42
    )
    ground = first[:, :, None, None] * (1 - blend[:, None]) + second[:, :, None, None] * blend[:, None]
    return torch.from_numpy(ground.astype(np.float32))


def _place(art: Tensor, counts: np.ndarray, layer: int, size: int, rng: Generator) -> Tensor:
    """Rotate, scale and place drawings on a canvas: nearly full size if alone, side by side in scenes."""
    n = len(art)
    alone = counts == 1
    scale = np.where(alone, rng.uniform(0.55, 1.12, n), rng.uniform(0.9, 1.05, n) / np.maximum(counts, 1.6))
    angle = rng.normal(0, 0.12, n)
    slot = (layer + 0.5) / counts * 2 - 1
    room = np.maximum(1 - scale, 0.08) * np.where(alone, 0.8, 0.15)
    x = np.where(alone, 0, slot) + rng.uniform(-1, 1, n) * room
    y = rng.uniform(-1, 1, n) * np.where(alone, room, np.maximum(1 - scale, 0) * 0.8)
    stretch = rng.uniform(0.92, 1.08, n)
    theta = np.zeros((n, 2, 3), np.float32)
    theta[:, 0, 0] = np.cos(angle) / scale * stretch
    theta[:, 0, 1] = np.sin(angle) / scale * stretch
    theta[:, 1, 0] = -np.sin(angle) / scale
    theta[:, 1, 1] = np.cos(angle) / scale
    theta[:, :, 2] = -np.einsum("nij,nj->ni", theta[:, :, :2], np.stack([x, y], 1))
    grid = functional.affine_grid(torch.from_numpy(theta), [n, 4, size, size], align_corners=False)
    small = torch.from_numpy(scale < 0.6)
    placed = functional.grid_sample(art, grid, align_corners=False)
    if small.any():  # bilinear sampling skips pixels when it shrinks a lot: start from a smaller drawing
        placed[small] = functional.grid_sample(functional.avg_pool2d(art[small], 2), grid[small], align_corners=False)
    return placed.clamp(0, 1)


def _colours(pictures: Tensor, rng: Generator) -> Tensor:
    """Change brightness, contrast and tint at random, sometimes to grey, and add some blur or noise."""
    n = len(pictures)

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32))

    grey = pictures.mean(1, keepdim=True)
    saturation = torch.where(draw(0, 1) < 0.04, torch.zeros(()), draw(0.7, 1.3))
    pictures = grey + (pictures - grey) * saturation
    pictures = (pictures - 0.5) * draw(0.8, 1.15) + 0.5 + draw(-0.08, 0.08)
    pictures = pictures * draw(0.93, 1.07, 3)
    blurred = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = pictures + (blurred - pictures) * draw(-0.3, 0.8).clamp(min=-0.3)
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))
    return (pictures + noise * draw(0, 0.03)).clamp(0, 1)
