"""Chinese-CLIP's `.pt`, FlagAI's folders, Paddle's `.pdparams` give the vectors of the towers that were saved."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from tuwen.data.pixels import framed, resized_size, to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput
from tuwen.exporting.samples import TEXTS, built_in
from tuwen.models.sources import family_of, load_source

from . import original_formats as formats

CASES = {
    "chinese-clip": formats.chinese_clip,
    "chinese-clip-resnet": lambda folder: formats.chinese_clip(folder, formats.RESNET),
    "flagai": formats.flagai,
    "paddle": formats.paddle,
    "paddle-three": lambda folder: formats.paddle(folder, one_matrix=False),
}


@dataclass
class Loaded:
    family: str
    original: formats.Original
    towers: object


@pytest.fixture(scope="module", params=CASES, ids=str)
def loaded(request, tmp_path_factory) -> Loaded:
    original = CASES[request.param](tmp_path_factory.mktemp(request.param))
    return Loaded(
        request.param.removesuffix("-three").removesuffix("-resnet"), original, load_source(str(original.path))
    )


def test_told_by_content(loaded) -> None:
    assert family_of(loaded.original.path).name == loaded.family
    assert loaded.towers.source.startswith(f"{loaded.family}:")


def test_vectors_are_those_of_the_saved_towers(loaded) -> None:
    towers, original = loaded.towers, loaded.original
    pixels = torch.randn(2, 3, *towers.image_spec.size, generator=torch.Generator().manual_seed(0))
    tokens = towers.to_tokens(TEXTS[:5])
    inputs = [torch.from_numpy(tokens.ids)]
    if towers.text_spec.mask:
        inputs.append(torch.from_numpy((np.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]).astype(np.int64)))
    with torch.no_grad():
        for found, expected in (
            (towers.vision(pixels), original.image(pixels)),
            (towers.text(*inputs), original.text(*inputs)),
        ):
            assert float(expected.std(dim=0).min()) > 1e-4  # inputs differ, and so do their vectors
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_what_is_said_of_the_model(loaded) -> None:
    towers = loaded.towers
    assert towers.scoring.scale == pytest.approx(np.exp(loaded.original.scale), rel=1e-5)
    assert towers.image_spec.size[0] in (32, 64)
    assert towers.image_spec.resize == ("squash" if loaded.family == "chinese-clip" else "shortest")
    assert (towers.text_spec.context_length, towers.text_spec.mask) == {
        "chinese-clip": (52, True),
        "flagai": (77, True),
        "paddle": (77, False),
    }[loaded.family]


def test_pixels_are_those_of_the_published_preprocessing(loaded) -> None:
    images = built_in().images
    found = to_pixels(loaded.towers.image_spec, images)
    np.testing.assert_allclose(found, loaded.towers.to_pixels(images), atol=1e-6)


def test_paddle_rounds_the_longer_side_and_crops_at_the_floor(tmp_path) -> None:
    """150 x 101 becomes 48 x 32, and its crop starts at 8; 149 x 101 becomes 47 x 32, and its crop starts at 7."""
    spec = load_source(str(formats.paddle(tmp_path).path)).image_spec
    assert (spec.crop_rounding, spec.resize_rounding) == ("floor", "round")
    for width, longer, start in ((150, 48, 8), (149, 47, 7)):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (101, width, 3), dtype=np.uint8))
        assert resized_size(spec, 101, width) == (32, longer)
        resized = np.asarray(image.resize((longer, 32), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(framed(spec, image), resized[:, start : start + 32])


def test_ids_are_the_reference_s(loaded, tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(loaded.towers.tokenizer)
    found = Tokenizer(tmp_path / "tokenizer.json", loaded.towers.text_spec).to_tokens(TEXTS)
    expected = loaded.towers.to_tokens(TEXTS)
    assert found.lengths.tolist() == expected.lengths.tolist()
    width = found.ids.shape[1]
    np.testing.assert_array_equal(found.ids, expected.ids[:, :width])


def test_chinese_words_have_the_published_ids(tmp_path) -> None:
    towers = load_source(str(formats.chinese_clip(tmp_path).path))
    assert towers.to_tokens(["皮卡丘"]).ids[0, :5].tolist() == [101, 4649, 1305, 687, 102]


def test_weights_apart_from_the_architecture(tmp_path) -> None:
    original = formats.paddle(tmp_path)
    with pytest.raises(InvalidInput) as wrong:
        load_source("paddle:CLIP_vit_base_patch32_224", original.path)
    assert wrong.value.value == "CLIP_vit_base_patch32_224"
    with pytest.raises(InvalidInput):
        load_source("paddle:CLIP_vit_base_patch32_224", original.path, arch="CLIP_vit_base_patch16_224")


def test_towers_that_are_not_there(tmp_path) -> None:
    (tmp_path / "vision.pdparams").write_bytes(pickle.dumps({"visual.proj": np.zeros((2, 2), np.float32)}))
    with pytest.raises(InvalidInput):
        load_source(f"paddle:{tmp_path / 'vision.pdparams'}")
    with pytest.raises(InvalidInput):
        load_source("flagai:AltCLIP-XLMR-L")


def test_a_text_tower_over_bert(tmp_path) -> None:
    formats.flagai(tmp_path, "bert")
    with pytest.raises(InvalidInput) as caught:
        load_source(str(tmp_path))
    assert caught.value.value == "bert"


def test_a_tensor_that_is_missing_or_too_many(tmp_path) -> None:
    original = formats.chinese_clip(tmp_path)
    saved = torch.load(original.path)["state_dict"]
    for change, name in (({}, "visual.ln_post.weight"), ({"module.visual.extra.weight": torch.zeros(2)}, None)):
        state = {key: tensor for key, tensor in saved.items() if key != f"module.{name}"} | change
        torch.save({"state_dict": state}, tmp_path / "other.pt")
        with pytest.raises(InvalidInput):
            load_source(str(tmp_path / "other.pt"))
