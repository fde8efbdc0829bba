import json

import pytest
import torch

from tuwen.errors import BundleInvalid, InvalidInput
from tuwen.models.openclip import described, load, load_folder, published
from tuwen.models.torchvision import import_open_clip

from .archives import nested
from .openclip_zoo import write_layout
from .test_openclip import TINY, import_open_clip_state, vectors


@pytest.fixture(scope="module")
def tiny():
    return load("ViT-B-32", overrides=TINY)


def test_quickgelu_of_a_published_tag(tiny) -> None:
    same_as_quickgelu(load("ViT-B-32", tag="openai", overrides=TINY), tiny)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_quickgelu_of_openai_s_archives(tmp_path, tiny) -> None:
    state = {name.removeprefix("text."): tensor for name, tensor in import_open_clip_state(seed=0).items()}
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    torch.jit.script(nested(state | {name: torch.tensor(number) for name, number in numbers.items()})).save(
        tmp_path / "ViT-B-32.pt"
    )
    same_as_quickgelu(load("ViT-B-32", tmp_path / "ViT-B-32.pt", overrides=TINY), tiny)


def same_as_quickgelu(found, plain) -> None:
    quick = load("ViT-B-32-quickgelu", overrides=TINY)
    for ours, wanted, other in zip(vectors(found), vectors(quick), vectors(plain), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)
        assert not torch.allclose(ours, other, atol=1e-6)


def test_preprocessing_that_a_file_does_not_record_is_not_guessed(tmp_path) -> None:
    with pytest.raises(InvalidInput) as raised:
        published(import_open_clip(), "ViT-L-14", None, tmp_path / "weights.bin")
    assert (raised.value.where, raised.value.value) == ("ViT-L-14", ["mean", "std"])
    assert "laion2b_s32b_b82k" in raised.value.hint


@pytest.mark.parametrize(
    ("architecture", "tag", "quick_gelu", "mean"),
    [
        ("ViT-L-14", "laion2b_s32b_b82k", False, 0.5),
        ("ViT-L-14", "openai", True, 0.48145466),
        ("ViT-B-32", "laion400m_e32", True, 0.48145466),
        ("RN50", "yfcc15m", True, 0.48145466),
        ("ViT-B-32-quickgelu", None, True, 0.48145466),
        ("ViT-B-32", None, False, 0.48145466),
        ("RN50", None, False, 0.48145466),
        ("xlm-roberta-base-ViT-B-32", None, False, 0.48145466),
        ("MobileCLIP2-S0", None, False, 0.0),
    ],
)
def test_what_a_tag_or_all_tags_say(architecture, tag, quick_gelu, mean, tmp_path) -> None:
    definition = published(import_open_clip(), architecture, tag, tmp_path / "weights.bin")
    assert definition.model["quick_gelu"] is quick_gelu
    assert definition.preprocessing["mean"][0] == mean


def test_random_weights_need_no_tag() -> None:
    definition = published(import_open_clip(), "ViT-L-14", None, None)
    assert not definition.model.get("quick_gelu")
    assert definition.preprocessing["mean"][0] == 0.48145466


def test_quickgelu_of_a_folder_s_configuration(tmp_path) -> None:
    """The same weights with and without it in `open_clip_config.json` give other vectors."""
    write_layout("ViT-B-32", tmp_path)
    plain = load_folder(tmp_path)
    path = tmp_path / "open_clip_config.json"
    document = json.loads(path.read_text())
    document["model_cfg"]["quick_gelu"] = True
    path.write_text(json.dumps(document))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(plain.vision(pixels), load_folder(tmp_path).vision(pixels), atol=1e-4)


def test_names_of_older_configurations(tmp_path) -> None:
    text = {"hf_model_name": "xlm-roberta-base", "proj": "mlp", "pooler_type": "mean_pooler"}
    document = {"model_cfg": {"embed_dim": 8, "vision_cfg": {"layers": 2}, "text_cfg": text}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    assert described(tmp_path).model["text_cfg"] == {
        "hf_model_name": "xlm-roberta-base",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
    }


@pytest.mark.parametrize(
    "content",
    [None, "{", "[]", '{"model_cfg": {"embed_dim": 8}}', '{"model_cfg": {"vision_cfg": {"mamba": 1}, "text_cfg": {}}}'],
)
def test_folders_that_describe_nothing(content, tmp_path) -> None:
    if content is not None:
        (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises((InvalidInput, BundleInvalid)):
        described(tmp_path)


def test_a_configuration_that_open_clip_cannot_build(tmp_path) -> None:
    for vision in ({"timm_model_name": "no_such_model"}, {"layers": 1, "width": "wide"}):
        document = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {}}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
        (tmp_path / "open_clip_model.safetensors").touch()
        with pytest.raises(InvalidInput):
            load_folder(tmp_path)
