import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from tuwen.errors import InvalidInput
from tuwen.models.openclip import load
from tuwen.models.torchvision import import_open_clip

SURE = "ViT-B-32-256"
"""An architecture whose published weights agree on all that a file does not say."""
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"layers": 1, "width": 32, "heads": 2},
}


@pytest.fixture(scope="module")
def tiny():
    return load("ViT-B-32", overrides=TINY)


def vectors(towers, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    ids = torch.from_numpy(towers.to_tokens(["a dog", "two cats on a mat"]).ids)
    with torch.no_grad():
        return towers.vision(pixels), towers.text(ids)


def test_a_seed_gives_the_same_weights(tiny) -> None:
    state = torch.random.get_rng_state()
    again, other = load("ViT-B-32", overrides=TINY), load("ViT-B-32", overrides=TINY, seed=1)
    assert again.weights_sha256() == tiny.weights_sha256() != other.weights_sha256()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_it_says_of_the_model(tiny) -> None:
    assert (tiny.name, tiny.family, tiny.source) == ("ViT-B-32/random-0", "openclip", "openclip:ViT-B-32/random-0")
    assert (tiny.image_spec.size, tiny.image_spec.resize, tiny.image_spec.mean[0]) == (
        (32, 32),
        "shortest",
        0.48145466,
    )
    assert (tiny.text_spec.context_length, tiny.text_spec.end_id, tiny.text_spec.mask) == (77, 49407, False)
    assert tiny.scoring.kind == "softmax"
    assert tiny.scoring.scale == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("ending", [".bin", ".pt", ".safetensors"])
def test_weights_from_a_file(tiny, tmp_path, ending) -> None:
    path = tmp_path / f"model{ending}"
    state = import_open_clip_state(seed=3)
    if ending == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save({"state_dict": state} if ending == ".pt" else state, path)
    loaded = load(SURE, path, overrides=TINY)
    expected = load(SURE, overrides=TINY, seed=3)
    assert loaded.weights_sha256() == expected.weights_sha256()
    assert loaded.source == f"openclip:{SURE}/model{ending}"
    for found, wanted in zip(vectors(loaded), vectors(expected), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def import_open_clip_state(seed: int) -> dict[str, torch.Tensor]:
    """The whole state of a tiny model, as a checkpoint holds it."""
    towers = load("ViT-B-32", overrides=TINY, seed=seed)
    return {
        **{name: tensor.clone() for name, tensor in towers.weights.items()},
        "logit_scale": torch.tensor(4.6052),
    }


def test_the_scale_is_the_checkpoint_s_own(tmp_path) -> None:
    torch.save(import_open_clip_state(seed=0), tmp_path / "model.bin")
    assert load(SURE, tmp_path / "model.bin", overrides=TINY).scoring.scale == pytest.approx(100, rel=1e-4)


def test_pixels_and_tokens_are_open_clip_s_own(tiny) -> None:
    open_clip = import_open_clip()
    transform = open_clip.create_model_and_transforms("ViT-B-32", load_weights=False, force_image_size=32)[2]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    np.testing.assert_array_equal(tiny.to_pixels([image])[0], transform(image).numpy())
    tokens = tiny.to_tokens(["a dog", "x " * 100])
    np.testing.assert_array_equal(tokens.ids, open_clip.get_tokenizer("ViT-B-32")(["a dog", "x " * 100]).numpy())
    assert tokens.lengths.tolist() == [4, 77]


@pytest.mark.parametrize("length", [2, 9, 77])
def test_short_texts_are_read_as_open_clip_reads_them(tiny, length) -> None:
    ids = torch.from_numpy(tiny.to_tokens(["a dog " * 40]).ids)
    ids[:, length - 1] = 49407
    ids[:, length:] = 0
    with torch.no_grad():
        torch.testing.assert_close(tiny.text(ids[:, :length]), tiny.text(ids), rtol=0, atol=2e-6)


def test_two_outputs_of_coca_become_one() -> None:
    overrides = {**TINY, "multimodal_cfg": {"width": 32, "heads": 2, "layers": 1}}
    overrides["vision_cfg"] = {**TINY["vision_cfg"], "attn_pooler_heads": 2}
    towers = load("coca_ViT-B-32", overrides=overrides)
    assert [tuple(vector.shape) for vector in vectors(towers)] == [(2, 16), (2, 16)]


@pytest.mark.parametrize(
    ("arguments", "value", "where"),
    [
        ({"architecture": "ViT-B32"}, "ViT-B32", None),
        ({"architecture": "ViT-B-32", "tag": "laion"}, "laion", "ViT-B-32"),
        ({"architecture": "ViT-B-16-SigLIP"}, "timm/ViT-B-16-SigLIP", None),
    ],
)
def test_what_cannot_be_built(arguments, value, where) -> None:
    with pytest.raises(InvalidInput) as raised:
        load(**arguments, overrides=TINY)
    assert (raised.value.value, raised.value.where) == (value, where)


class Malice:
    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def test_a_malicious_file_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Malice()}, tmp_path / "zipped.bin")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Malice(), protocol=2))
    for name in ("zipped.bin", "bare.bin"):
        with pytest.raises(InvalidInput) as raised:
            load(SURE, tmp_path / name, overrides=TINY)
        assert raised.value.where == tmp_path / name
    assert not (tmp_path / "pwned").exists()


def test_weights_of_another_architecture(tmp_path) -> None:
    torch.save({"visual.proj": torch.zeros(3)}, tmp_path / "other.bin")
    with pytest.raises(InvalidInput) as other:
        load(SURE, tmp_path / "other.bin", overrides=TINY)
    assert (other.value.value, other.value.where) == (SURE, tmp_path / "other.bin")
    with pytest.raises(InvalidInput) as absent:
        load(SURE, tmp_path / "absent.bin", overrides=TINY)
    assert absent.value.where == tmp_path / "absent.bin"
