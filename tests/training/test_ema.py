import pytest
import torch
from torch import nn

from tuwen.training.step import Average


def moved(module: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


def test_a_mean_of_the_weights() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average, expected = Average(module, decay=0.25), 0.0
    for step in range(1, 6):
        moved(module, 1.0)
        average.update(module)
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.swapped(module):
        assert float(module.weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(module.weight.detach()) == 5


def test_goes_on_from_its_state() -> None:
    module = nn.BatchNorm1d(2)
    first, second = Average(module, 0.9), Average(module, 0.9)
    moved(module, 1.0)
    module(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    first.update(module)
    second.load_state(first.state())
    moved(module, 1.0)
    for average in (first, second):
        average.update(module)
    with first.swapped(module):
        expected = {name: value.clone() for name, value in module.state_dict().items()}
    with second.swapped(module):
        assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
