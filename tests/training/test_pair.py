from math import log

import pytest
import torch

from tuwen.errors import InvalidInput
from tuwen.training.gradients import Backward
from tuwen.training.loss import LOSSES
from tuwen.training.model import Pair

from .towers import inputs, keys, small_pair, small_towers


def test_begins_with_the_checkpoints_scale() -> None:
    towers = small_towers()
    pair = Pair(towers, "infonce", None)
    assert float(pair.log_scale.detach().exp()) == pytest.approx(towers.scoring.scale)
    assert pair.bias is None
    other = Pair(towers, "siglip", None)
    assert (float(other.log_scale.detach().exp()), float(other.bias.detach())) == (pytest.approx(10), -10)


def test_the_scale_is_clamped() -> None:
    pair = Pair(small_towers(), "infonce", 50.0)
    with torch.no_grad():
        pair.log_scale.fill_(9.0)
    pair.clamp()
    assert float(pair.log_scale.detach()) == pytest.approx(log(50))
    with pytest.raises(InvalidInput) as raised:
        Pair(small_towers(), "infonce", 10.0)
    assert raised.value.where == "loss.max_scale"


def test_more_blocks_than_there_are_cannot_be_locked() -> None:
    with pytest.raises(InvalidInput) as raised:
        small_pair().lock(text=3)
    assert raised.value.value == 3


def test_what_is_locked_stays_in_eval_mode() -> None:
    pair = small_pair()
    pair.lock(vision="all", text=1)
    pair.train()
    first, second = pair.text.tower.transformer.resblocks
    assert (pair.vision.training, first.training, second.training, pair.text.training) == (False, False, True, True)


def test_what_no_gradient_reaches_is_not_trained() -> None:
    pair = small_pair(loss="siglip")
    pair.vision.pooler = torch.nn.Linear(3, 3)
    pair.leave_out_unreached(inputs(2))
    still = {name for name, parameter in pair.named_parameters() if not parameter.requires_grad}
    assert still == {"vision.pooler.weight", "vision.pooler.bias"}
    assert all(parameter.grad is None for parameter in pair.parameters())
    assert pair.training


def test_checkpointed_blocks_give_the_same_gradients() -> None:
    pair, found = small_pair(), []
    for step in range(3):
        if step == 1:
            pair.train().checkpoint_blocks()
        if step == 2:
            pair.keep_blocks()
        pair.zero_grad()
        calls: list[None] = []
        inside = pair.vision.tower.transformer.resblocks[0].mlp
        handle = inside.register_forward_pre_hook(lambda *_, calls=calls: calls.append(None))
        Backward(pair=pair, loss=LOSSES["infonce"])(inputs(4), keys(4))
        handle.remove()
        assert len(calls) == (2 if step == 1 else 1)
        found.append({name: parameter.grad.clone() for name, parameter in pair.named_parameters()})
    assert all(torch.equal(found[0][name], found[place][name]) for name in found[0] for place in (1, 2))
