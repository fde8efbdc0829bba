"""Training pictures: the part, the colours, the scaling; each as torchvision and the model's image spec have it."""

import io
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

import tiny
from training.making import PLAIN, picture
from tuwen.data.decode import read_image
from tuwen.data.pixels import to_pixels
from tuwen.models.torchvision import make_torchvision_importable
from tuwen.training.augment import Augment, part_of
from tuwen.training.config import AugmentConfig, Jitter

WHOLE = AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0))


@pytest.fixture
def image() -> Image.Image:
    return Image.open(io.BytesIO(picture(7, (64, 64)))).convert("RGB")


def test_plain_is_what_the_model_sees(image: Image.Image) -> None:
    assert (Augment(PLAIN, tiny.IMAGE)(image, Random(1)) == to_pixels(tiny.IMAGE, [image])[0]).all()


def test_the_whole_as_the_part_is_what_the_model_sees(image: Image.Image) -> None:
    assert (Augment(WHOLE, tiny.IMAGE)(image, Random(1)) == to_pixels(tiny.IMAGE, [image])[0]).all()


def test_a_part_is_torchvisions_own(image: Image.Image) -> None:
    make_torchvision_importable()
    from torchvision.transforms import InterpolationMode, v2

    config = AugmentConfig(scale=(0.2, 0.6))
    top, left, height, width = part_of(image.height, image.width, config, Random(5))
    cut = v2.functional.resized_crop(image, top, left, height, width, [8, 8], InterpolationMode.BICUBIC)
    theirs = v2.Compose([v2.PILToTensor(), v2.ToDtype(__import__("torch").float32, scale=True)])(cut)
    theirs = v2.functional.normalize(theirs, tiny.IMAGE.mean, tiny.IMAGE.std)
    ours = Augment(config, tiny.IMAGE)(image, Random(5))
    assert np.abs(ours - theirs.numpy()).max() < 1e-6


@pytest.mark.parametrize("size", [(30, 40), (500, 20), (1, 1), (3, 900)])
def test_parts_lie_within_and_have_area_and_ratio(size: tuple[int, int]) -> None:
    config = AugmentConfig(scale=(0.3, 0.8), ratio=(0.75, 4 / 3))
    for number in range(200):
        top, left, height, width = part_of(*size, config, Random(number))
        assert 0 <= top <= size[0] - height
        assert 0 <= left <= size[1] - width
        assert height > 0
        assert width > 0
        if size == (30, 40):
            assert 0.25 < height * width / 1200 < 0.85
            assert 0.7 < width / height < 1.4


def test_parts_are_drawn_as_torchvision_draws_them() -> None:
    make_torchvision_importable()
    import torch
    from torchvision.transforms import RandomResizedCrop

    config = AugmentConfig(scale=(0.1, 1.0))
    ours = np.array([part_of(60, 90, config, Random(number)) for number in range(3000)])
    torch.manual_seed(0)
    blank = torch.zeros(3, 60, 90)
    theirs = np.array(
        [RandomResizedCrop.get_params(blank, list(config.scale), list(config.ratio)) for _ in range(3000)]
    )
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < 1.0
    assert np.abs(ours.std(axis=0) - theirs.std(axis=0)).max() < 1.0


def test_mirrored_and_grey_as_often_as_said(image: Image.Image) -> None:
    plain = Augment(WHOLE, tiny.IMAGE)(image, Random(0))
    mirrored = Augment(WHOLE.model_copy(update={"flip": 1.0}), tiny.IMAGE)(image, Random(0))
    assert np.abs(mirrored - plain[:, :, ::-1]).max() < 0.1  # the mirror is before the scaling, which may round
    grey = Augment(WHOLE.model_copy(update={"grayscale": 1.0}), tiny.IMAGE)(image, Random(0))
    levels = grey * np.array(tiny.IMAGE.std)[:, None, None] + np.array(tiny.IMAGE.mean)[:, None, None]
    assert np.abs(levels[0] - levels[1]).max() < 1e-6
    some = Augment(WHOLE.model_copy(update={"grayscale": 0.25}), tiny.IMAGE)
    assert 70 < sum(not (some(image, Random(n)) == plain).all() for n in range(400)) < 130


def test_colours_stay_within_what_was_said(image: Image.Image) -> None:
    dark = Image.new("RGB", (8, 8), (100, 100, 100))
    jitter = WHOLE.model_copy(update={"jitter": Jitter(probability=1.0, brightness=0.2)})
    augment = Augment(jitter, tiny.IMAGE)
    levels = [augment(dark, Random(n))[0, 0, 0] * tiny.IMAGE.std[0] + tiny.IMAGE.mean[0] for n in range(200)]
    assert 79 / 255 < min(levels) < 85 / 255
    assert 115 / 255 < max(levels) < 121 / 255
    every = Jitter(probability=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    made = [Augment(WHOLE.model_copy(update={"jitter": every}), tiny.IMAGE)(image, Random(n)) for n in range(4)]
    assert len({one.tobytes() for one in made}) == 4


def test_large_pictures_keep_enough_for_the_least_part(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1600, 2400, 3), dtype=np.uint8)).save(path)
    spec = tiny.IMAGE.model_copy(update={"size": (32, 32)})
    augment = Augment(AugmentConfig(scale=(0.08, 1.0)), spec)
    reduced = read_image(path, "x", augment.reading(exact=False, max_pixels=10**8)).image
    assert 32 / 0.08**0.5 <= min(reduced.size) < 1600
    whole = read_image(path, "x", augment.reading(exact=True, max_pixels=10**8)).image
    assert whole.size == (2400, 1600)
    assert (
        augment.reading(exact=False, max_pixels=10**8).near
        != Augment(PLAIN, spec).reading(exact=False, max_pixels=10**8).near
    )
