import pytest
import torch
from torch import nn

from tuwen.training.gradients import Backward
from tuwen.training.loss import LOSSES
from tuwen.training.model import Lock, Pair

from .towers import inputs, keys, small_pair


def gradients(pair: Pair, loss: str, chunk: int, factor: float = 1.0) -> tuple[float, dict[str, torch.Tensor]]:
    pair.zero_grad()
    value = Backward(pair=pair, loss=LOSSES[loss], chunk=chunk)(inputs(7), keys(7, repeated=True), factor)
    return float(value), {name: parameter.grad for name, parameter in pair.named_parameters()}


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_are_the_whole(loss: str, chunk: int) -> None:
    pair = small_pair(loss=loss)
    expected, wanted = gradients(pair, loss, 0)
    found, got = gradients(pair, loss, chunk)
    assert found == pytest.approx(expected, rel=1e-5)
    for name, gradient in wanted.items():
        assert torch.allclose(got[name], gradient, rtol=1e-5, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize("locked", [{"vision": "all"}, {"text": "all"}, {"vision": "all", "text": "all"}])
def test_chunks_of_a_locked_tower_are_the_whole(locked: dict[str, Lock]) -> None:
    pair = small_pair()
    pair.lock(**locked)
    expected, wanted = gradients(pair, "infonce", 0)
    found, got = gradients(pair, "infonce", 3)
    assert found == pytest.approx(expected, rel=1e-5)
    trained = {name for name, parameter in pair.named_parameters() if parameter.requires_grad}
    assert {name for name, gradient in got.items() if gradient is not None} == trained
    for name in trained:
        assert torch.allclose(got[name], wanted[name], rtol=1e-5, atol=1e-5 * float(wanted[name].abs().max())), name


def test_a_chunk_computed_twice_draws_alike() -> None:
    """With dropout: the gradients must be those of the vectors that the loss saw."""
    pair = small_pair()
    pair.text = nn.Sequential(pair.text, nn.Dropout(0.5))
    pair.train()
    seen: list[torch.Tensor] = []
    pair.text.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    torch.manual_seed(4)
    gradients(pair, "infonce", 3)
    assert len(seen) == 6
    assert all(torch.equal(first, again) for first, again in zip(seen[:3], seen[3:], strict=True))
    assert not torch.equal(seen[0] == 0, seen[1] == 0)


def test_a_share_of_the_gradients() -> None:
    pair = small_pair()
    _, one = gradients(pair, "infonce", 3)
    _, half = gradients(pair, "infonce", 3, factor=0.5)
    assert all(torch.allclose(half[name] * 2, one[name], rtol=1e-4, atol=1e-7) for name in one)
