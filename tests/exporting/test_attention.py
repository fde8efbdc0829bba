"""The plain form against torch's own, in every way that a tower may call it."""

import pytest
import torch

from tuwen.exporting.graph import plain_attention

N, LENGTH, DIM, HEADS = 3, 5, 16, 4


@pytest.fixture
def attention(request) -> torch.nn.MultiheadAttention:
    torch.manual_seed(0)
    return torch.nn.MultiheadAttention(DIM, HEADS, **getattr(request, "param", {})).eval()


def both_ways(attention, *inputs, **options) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        expected = attention(*inputs, need_weights=False, **options)[0]
        with plain_attention():
            found, weights = attention(*inputs, need_weights=False, **options)
    assert weights is None
    return found, expected


def rows(length: int = LENGTH, seed: int = 1) -> torch.Tensor:
    return torch.randn(N, length, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "attention",
    [{"batch_first": True}, {"batch_first": True, "bias": False}, {"batch_first": False}],
    indirect=True,
    ids=["batch first", "no bias", "sequence first"],
)
def test_self_attention(attention) -> None:
    x = rows() if attention.batch_first else rows().transpose(0, 1)
    torch.testing.assert_close(*both_ways(attention, x, x, x))


@pytest.mark.parametrize("attention", [{"batch_first": True}, {}], indirect=True, ids=["batch first", "sequence first"])
def test_attention_over_other_inputs(attention) -> None:
    inputs = [rows(2), rows(7, 2), rows(7, 3)]
    inputs = inputs if attention.batch_first else [x.transpose(0, 1) for x in inputs]
    torch.testing.assert_close(*both_ways(attention, *inputs))


CAUSAL = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
PADDED = torch.arange(LENGTH)[None, :] >= torch.tensor([[5], [3], [1]])


@pytest.mark.parametrize("attention", [{"batch_first": True}], indirect=True)
@pytest.mark.parametrize(
    "masks",
    [
        {"attn_mask": CAUSAL},
        {"attn_mask": CAUSAL < 0},
        {"attn_mask": CAUSAL.expand(N * HEADS, -1, -1)},
        {"key_padding_mask": PADDED},
        {"attn_mask": CAUSAL, "key_padding_mask": torch.zeros(N, LENGTH).masked_fill(PADDED, float("-inf"))},
    ],
    ids=["causal", "boolean", "one a head", "padding", "causal and padding"],
)
def test_masks(attention, masks) -> None:
    x = rows()
    torch.testing.assert_close(*both_ways(attention, x, x, x, **masks))


def test_a_mask_matters(attention) -> None:
    x = rows().transpose(0, 1)
    assert not torch.allclose(both_ways(attention, x, x, x)[0], both_ways(attention, x, x, x, attn_mask=CAUSAL)[0])


@pytest.mark.parametrize(
    "attention", [{"add_zero_attn": True}, {"add_bias_kv": True}, {"kdim": 8, "vdim": 8}], indirect=True, ids=str
)
def test_what_has_no_plain_form_is_left_to_torch(attention) -> None:
    other = torch.randn(LENGTH, N, attention.kdim)
    torch.testing.assert_close(*both_ways(attention, rows().transpose(0, 1), other, other))


def test_weights_are_given_where_they_are_asked_for(attention) -> None:
    x = rows()
    with plain_attention():
        assert attention(x, x, x)[1] is not None


def test_torch_is_as_it_was_afterwards(attention) -> None:
    before = torch.nn.MultiheadAttention.forward
    with pytest.raises(ValueError, match="inside"), plain_attention():
        raise ValueError("inside")
    assert torch.nn.MultiheadAttention.forward is before
