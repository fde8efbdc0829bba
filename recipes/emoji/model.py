"""The two towers of the model `pictograms`: a small convolutional image tower and a small masked text tower."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

IMAGE_SIZE = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the model."""

    vocabulary: int
    context: int
    dim: int = 128
    image_size: int = IMAGE_SIZE
    image_widths: tuple[int, ...] = (48, 96, 192)
    image_blocks: tuple[int, ...] = (1, 1, 1)
    text_width: int = 160
    text_heads: int = 5
    text_blocks: int = 1


class ImageTower(nn.Module):
    """pixel_values (n, 3, 64, 64) -> (n, dim): patches of 4 × 4, then residual convolutions at three scales."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, shape.image_widths[0], 4, 4)]
        previous = shape.image_widths[0]
        for stage, (width, blocks) in enumerate(zip(shape.image_widths, shape.image_blocks, strict=True)):
            if stage:
                layers.append(_convolution(previous, width, 2, 2))
            layers += [Residual(width) for _ in range(blocks)]
            previous = width
        self.trunk = nn.Sequential(*layers)
        # the last map is 4 × 4: a weighted sum over positions preserves the layout, a mean would not
        self.places = nn.Conv2d(previous, previous * 2, (shape.image_size // 16), groups=previous)
        self.head = nn.Linear(previous * 2, shape.dim)

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps = self.trunk(pixel_values)  # (n, width, 4, 4)
        return self.head(self.places(maps).flatten(1))


class Residual(nn.Module):
    """x + two 3 × 3 convolutions of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 3, 1)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.second(self.first(maps))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    padding = kernel // 2 if stride == 1 else 0
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.GELU()
    )


class TextTower(nn.Module):
    """input_ids (n, l), attention_mask (n, l) -> (n, dim). Padding is masked out everywhere."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.text_width)
        self.positions = nn.Parameter(torch.zeros(shape.context, shape.text_width))
        self.blocks = nn.ModuleList(Block(shape.text_width, shape.text_heads) for _ in range(shape.text_blocks))
        self.norm = nn.LayerNorm(shape.text_width)
        self.head = nn.Linear(shape.text_width, shape.dim)
        nn.init.normal_(self.tokens.weight, std=0.1)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.tokens(input_ids) + self.positions[: input_ids.shape[1]]  # (n, l, width)
        real = attention_mask.to(x.dtype).unsqueeze(-1)  # (n, l, 1)
        # e^-10000 is exactly 0 in float32, and -10000 fits float16
        bias = ((1 - real) * -10_000.0).transpose(1, 2).unsqueeze(1)  # (n, 1, 1, l)
        for block in self.blocks:
            x = block(x, bias)
        pooled = (self.norm(x) * real).sum(1) / real.sum(1)
        return self.head(pooled)


class Block(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (n, heads, l, width / heads)
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5 + bias).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, length, width))
        return x + self.feed(self.norm_2(x))
