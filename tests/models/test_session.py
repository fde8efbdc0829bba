from dataclasses import replace

import numpy as np
import pytest
import torch

from models.test_openclip import TINY
from tuwen.errors import InvalidInput, RuntimeUnavailable
from tuwen.models.openclip import load
from tuwen.models.session import TorchSession, ports, torch_session
from tuwen.runtime.session import Session
from tuwen.types import Port


@pytest.fixture(scope="module")
def towers():
    return load("ViT-B-32", overrides=TINY)


def pixels(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 3, 32, 32)).astype(np.float32)


def test_it_computes_what_the_module_does(towers) -> None:
    session: Session = torch_session(towers, "vision")
    assert (session.runtime, session.device, session.precision) == ("torch", "cpu", "fp32")
    with torch.no_grad():
        expected = towers.vision(torch.from_numpy(pixels())).numpy()
    np.testing.assert_array_equal(session.run({"pixel_values": pixels()}), expected)
    tokens = towers.to_tokens(["a dog"])
    text = torch_session(towers, "text").run({"input_ids": tokens.ids})
    assert (text.shape, text.dtype) == ((1, 16), np.float32)


def test_a_module_in_training_runs_as_it_will_be_and_goes_on_training() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Flatten(), torch.nn.Linear(12, 4))
    module.train()
    module[1].eval()
    session = TorchSession(module, (Port("x", (None, 3, 2, 2), np.dtype(np.float32)),))
    feeds = {"x": np.ones((1, 3, 2, 2), np.float32)}
    before = session.run(feeds)
    np.testing.assert_array_equal(session.run(feeds), before)
    assert [part.training for part in module] == [True, False, True]
    with torch.no_grad():
        module[2].bias += 1
    np.testing.assert_allclose(session.run(feeds), before + 1, atol=1e-6)


def test_a_tower_that_reads_a_mask_has_a_port_for_it(towers) -> None:
    masked = replace(towers, text_spec=towers.text_spec.model_copy(update={"mask": True}))
    assert [port.name for port in ports(masked, "text")] == ["input_ids", "attention_mask"]
    assert [port.name for port in ports(towers, "text")] == ["input_ids"]


def test_less_precision_is_asked_for_and_what_is_not_here_is_said(towers) -> None:
    exact = torch_session(towers, "vision").run({"pixel_values": pixels()})
    rough = torch_session(towers, "vision", precision="bf16").run({"pixel_values": pixels()})
    assert rough.dtype == np.float32
    assert 0 < abs(rough - exact).max() < 0.2
    with pytest.raises(InvalidInput):
        torch_session(towers, "vision", precision="int8")
    with pytest.raises(RuntimeUnavailable):
        torch_session(towers, "vision", device="cuda:9")
