import json
import socket

import pytest
import torch

from tuwen.errors import InvalidInput
from tuwen.models.openclip import load, load_folder
from tuwen.models.openclip_weights import build, find_weights
from tuwen.models.sources import load_source
from tuwen.models.torchvision import import_open_clip

from .openclip_zoo import TWO, overrides, shallow, write_layout

OFTEN = ("RN50", "coca_ViT-B-32", "MobileCLIP2-S3", "xlm-roberta-base-ViT-B-32")
"""a ResNet, a model with a decoder, one of timm, one of transformers with a tokenizer of its own"""


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Every name that is looked up and every address that is connected to."""
    names: list[str] = []

    def refused(*arguments, **_) -> None:
        names.append(str(arguments))
        raise OSError("the network is closed")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    return names


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.long) for name in TWO]
)
def test_a_folder_of_the_hub_loads_with_the_network_closed(architecture, tmp_path, asked) -> None:
    made = write_layout(architecture, tmp_path, seed=5)
    with shallow(narrow=True):
        towers = load_folder(tmp_path)
    assert towers.weights_sha256() == made.weights_sha256()
    assert (towers.name, towers.source) == (tmp_path.name, f"openclip:{tmp_path.name}")
    assert (towers.image_spec, towers.text_spec) == (made.image_spec, made.text_spec)
    assert towers.tokenizer == made.tokenizer
    assert towers.scoring.scale == pytest.approx(90.02, abs=0.01)
    assert towers.scoring.bias == (-9 if towers.scoring.kind == "sigmoid" else 0)
    tokens = towers.to_tokens(["a dog", "一只棕色的狗在草地上奔跑"])
    pixels = torch.randn(2, 3, *towers.image_spec.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images, texts = towers.vision(pixels), towers.text(torch.from_numpy(tokens.ids))
    assert images.shape == texts.shape == (2, import_open_clip().get_model_config(architecture)["embed_dim"])
    assert images.isfinite().all()
    assert texts.isfinite().all()
    assert not torch.allclose(images[0], images[1])
    assert not torch.allclose(texts[0], texts[1])
    assert asked == []


def test_a_text_tower_of_the_hub_is_known_by_its_name() -> None:
    """At its real size, without memory for its weights."""
    open_clip = import_open_clip()
    for name, width, vocabulary in (("xlm-roberta-base-ViT-B-32", 768, 250002), ("roberta-ViT-B-32", 768, 50265)):
        with torch.device("meta"):
            model = build(open_clip, open_clip.get_model_config(name), 0, None)
        assert model.text.transformer.embeddings.word_embeddings.weight.shape == (vocabulary, width)
        assert model.text.transformer.embeddings.position_embeddings.weight.shape == (514, width)
        assert model.text.config.layer_norm_eps == 1e-5
        assert (model.text.config.pad_token_id, len(model.text.transformer.encoder.layer)) == (1, 12)


@pytest.mark.long
def test_every_architecture_can_be_built_with_the_network_closed(asked) -> None:
    """Without memory for weights; those that read with mT5 or NLLB want the `config.json` of that."""
    open_clip = import_open_clip()
    missing = set()
    for name in open_clip.list_models():
        try:
            with torch.device("meta"):
                build(open_clip, open_clip.get_model_config(name), 0, None)
        except InvalidInput:
            missing.add(name.partition("-")[0])
    assert missing == {"mt5", "nllb"}
    assert asked == []


def test_a_text_tower_that_nothing_describes(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    config = import_open_clip().get_model_config("mt5-base-ViT-B-32")
    with pytest.raises(InvalidInput) as raised:
        build(import_open_clip(), config, 0, tmp_path)
    assert (raised.value.value, raised.value.where) == ("google/mt5-base", tmp_path)
    assert "config.json" in raised.value.hint


def test_the_tokenizer_lies_beside_the_weights(tmp_path) -> None:
    write_layout("xlm-roberta-base-ViT-B-32", tmp_path)
    weights = tmp_path / "open_clip_model.safetensors"
    named = load(
        "xlm-roberta-base-ViT-B-32",
        weights,
        tag="laion5b_s13b_b90k",
        overrides=overrides("xlm-roberta-base-ViT-B-32", 64),
    )
    folder = load_source(f"openclip:{tmp_path}")
    assert named.name == "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"
    assert (named.weights_sha256(), named.tokenizer) == (folder.weights_sha256(), folder.tokenizer)
    assert (named.image_spec, named.text_spec) == (folder.image_spec, folder.text_spec)


def test_which_file_of_a_folder_holds_the_weights(tmp_path) -> None:
    with pytest.raises(InvalidInput) as empty:
        find_weights(tmp_path)
    assert (empty.value.where, empty.value.value) == (tmp_path, [])
    (tmp_path / "epoch_3.pt").touch()
    assert find_weights(tmp_path).name == "epoch_3.pt"
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InvalidInput) as ambiguous:
        find_weights(tmp_path)
    assert ambiguous.value.value == ["epoch_3.pt", "pytorch_model.bin"]
    for name in ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights(tmp_path).name == name
