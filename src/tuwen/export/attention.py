"""Multi-head attention in its plainest form, for the time of an export.

`torch.nn.MultiheadAttention` is written for sequence-first tensors and many special cases; exported, it leaves
about 40 nodes a layer, most of them moving axes about, and runtimes do not recognise it as attention. The same
sum written plainly leaves about 20, and they do: with OpenVINO at batch 1, ViT-B/32 gets a fifth faster and its
text tower twice as fast. Verification compares the outcome with the module as it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear

Attended: TypeAlias = tuple[Tensor, Tensor | None]


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within the block, every `torch.nn.MultiheadAttention` computes in the plain form, where that is the same."""
    attention = torch.nn.MultiheadAttention
    original = attention.forward
    attention.forward = _plainly(original)  # type: ignore[method-assign]
    try:
        yield
    finally:
        attention.forward = original  # type: ignore[method-assign]


def _plainly(original: Callable[..., Attended]) -> Callable[..., Attended]:
    """A forward in the plain form. What that has not (other options, weights asked for) the original does."""

    def forward(self: torch.nn.MultiheadAttention, *inputs: Tensor, **options: Any) -> Attended:  # noqa: ANN401
        if len(inputs) != 3 or options.get("need_weights", True) or not _is_plain(self):
            return original(self, *inputs, **options)
        masks = (_per_pair(options.get("attn_mask"), self.num_heads), _per_key(options.get("key_padding_mask")))
        given = [mask for mask in masks if mask is not None]
        if self.batch_first:
            return _attend(self, _project(self, inputs), given), None
        one = inputs[0] is inputs[1] is inputs[2]
        rows = (inputs[0].transpose(0, 1),) * 3 if one else tuple(x.transpose(0, 1) for x in inputs)
        return _attend(self, _project(self, rows), given).transpose(0, 1), None

    return forward


def _is_plain(attention: torch.nn.MultiheadAttention) -> bool:
    return attention._qkv_same_embed_dim and attention.bias_k is None and not attention.add_zero_attn


def _project(attention: torch.nn.MultiheadAttention, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Queries, keys and values, each (n, length, dim); one product for all three where they come from one input."""
    weight = attention.in_proj_weight
    bias: Tensor | None = attention.in_proj_bias  # torch's stubs do not know that `bias=False` leaves None
    if inputs[0] is inputs[1] is inputs[2]:
        return list(linear(inputs[0], weight, bias).chunk(3, dim=-1))
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return [linear(x, w, b) for x, w, b in zip(inputs, weight.chunk(3), biases, strict=True)]


def _attend(attention: torch.nn.MultiheadAttention, projected: list[Tensor], masks: list[Tensor]) -> Tensor:
    """softmax(q k' / sqrt(d) + masks) v, head by head (Vaswani et al. 2017, eq. 1), then the output projection."""
    heads, depth = attention.num_heads, attention.head_dim
    q, k, v = (
        x.reshape(*x.shape[:2], heads, depth).transpose(1, 2) for x in projected
    )  # (n, heads, length, depth)
    scores = (q * depth**-0.5) @ k.transpose(-1, -2)
    for mask in masks:
        scores = scores + mask
    mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2)
    out = attention.out_proj
    return linear(mixed.reshape(*mixed.shape[:2], heads * depth), out.weight, out.bias)


def _per_pair(mask: Tensor | None, heads: int) -> Tensor | None:
    """Torch's `attn_mask`, (l, s) or (n * heads, l, s), as something to add to (n, heads, l, s)."""
    if mask is None or mask.dim() == 2:
        return _additive(mask)
    return _additive(mask.reshape(-1, heads, *mask.shape[1:]))


def _per_key(mask: Tensor | None) -> Tensor | None:
    """Torch's `key_padding_mask`, (n, s), likewise."""
    return None if mask is None else _additive(mask[:, None, None, :])


def _additive(mask: Tensor | None) -> Tensor | None:
    """Torch's boolean masks say True for what is left out."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, float("-inf"))
