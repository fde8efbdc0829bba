from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tuwen.models.torchvision import import_open_clip
from tuwen.training.gradients import Backward
from tuwen.training.loss import LOSSES, Vectors, info_nce, sigmoid

from .processes import gradients_of, together
from .towers import inputs, keys, small_pair

JOBS = [("infonce", 0), ("siglip", 0), ("infonce", 2), ("siglip", 2)]


def vectors(count: int, bias: float | None = None) -> Vectors:
    random = torch.Generator().manual_seed(1)
    images, texts = (functional.normalize(torch.randn(count, 8, generator=random), dim=1) for _ in range(2))
    return Vectors(images, texts, torch.tensor(12.0), None if bias is None else torch.tensor(bias))


def test_info_nce_is_open_clips() -> None:
    batch = vectors(9)
    theirs = import_open_clip().ClipLoss()(batch.images, batch.texts, batch.scale)
    assert torch.allclose(info_nce(batch, *keys(9)), theirs, rtol=1e-6)


def test_sigmoid_is_open_clips() -> None:
    batch = vectors(9, bias=-10.0)
    theirs = import_open_clip().loss.SigLipLoss()(batch.images, batch.texts, batch.scale, batch.bias)
    assert torch.allclose(sigmoid(batch, *keys(9)), theirs, rtol=1e-6)


def test_a_repeated_picture_or_caption_is_no_negative() -> None:
    """Written out pair by pair, from the definition."""
    batch, (image_keys, text_keys) = vectors(5, bias=-1.0), keys(5, repeated=True)
    logits = batch.scale * batch.images @ batch.texts.T
    asked = torch.tensor(
        [
            [i == j or (image_keys[i] != image_keys[j] and text_keys[i] != text_keys[j]) for j in range(5)]
            for i in range(5)
        ]
    )
    assert int((~asked).sum()) == 4
    rows = [-(logits[i, i] - logits[i][asked[i]].logsumexp(0)) for i in range(5)]
    columns = [-(logits[i, i] - logits[:, i][asked[:, i]].logsumexp(0)) for i in range(5)]
    expected = (sum(rows) + sum(columns)) / 10
    unbiased = Vectors(batch.images, batch.texts, batch.scale)
    assert torch.allclose(info_nce(unbiased, image_keys, text_keys), expected)
    signed = (logits + batch.bias) * (2 * torch.eye(5) - 1)
    assert torch.allclose(sigmoid(batch, image_keys, text_keys), -functional.logsigmoid(signed)[asked].sum() / 5)


def whole(loss: str) -> tuple[float, dict[str, torch.Tensor]]:
    pair = small_pair(loss=loss)
    value = Backward(pair=pair, loss=LOSSES[loss])(inputs(8), keys(8, repeated=True))
    return float(value), {name: parameter.grad for name, parameter in pair.named_parameters()}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[float, dict[str, torch.Tensor]]]]:
    folder: Path = tmp_path_factory.mktemp("processes")
    return together(gradients_of, folder, 8, JOBS)


@pytest.mark.parametrize("job", range(len(JOBS)), ids=[f"{loss}-{chunk}" for loss, chunk in JOBS])
def test_two_processes_are_one_with_the_whole_batch(halves: list, job: int) -> None:
    """Repeated pictures and captions lie in different halves, too."""
    expected, gradients = whole(JOBS[job][0])
    (first, ours), (second, theirs) = halves[0][job], halves[1][job]
    assert (first + second) / 2 == pytest.approx(expected, rel=1e-6)
    length = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    for name, gradient in gradients.items():
        assert torch.equal(ours[name], theirs[name]), name
        assert (ours[name] - gradient).norm() <= 1e-6 * length, name
        assert torch.allclose(ours[name], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max())), name
