"""How a checkpoint is named, and how a path is told apart by what lies there."""

import json

import pytest
import torch

from tuwen.errors import InvalidInput
from tuwen.models.openclip_weights import candidates
from tuwen.models.sources import FAMILIES, family_of, load_source
from tuwen.models.torchvision import import_open_clip

CLIP = {"visual.class_embedding": torch.zeros(1), "transformer.resblocks.0.ln_1.weight": torch.zeros(1)}


def shapes_of(name: str) -> dict[str, torch.Tensor]:
    """A whole model's tensors without their memory."""
    with torch.device("meta"):
        return import_open_clip().model.CustomTextCLIP(**without_custom(name)).state_dict()


def without_custom(name: str) -> dict:
    config = import_open_clip().get_model_config(name)
    config.pop("custom_text", None)
    return config


def test_records_are_told_apart() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    assert all(f"{family.name}:" in family.written for family in FAMILIES)


@pytest.mark.parametrize("source", ["ViT-B-32", "unknown:ViT-B-32", "openclip:", "/nowhere/model.bin"])
def test_what_names_nothing(source) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_source(source)
    assert caught.value.value == source
    assert all(family.written in caught.value.hint for family in FAMILIES)


def test_a_file_of_open_clip(tmp_path) -> None:
    for name, state in (("old", CLIP), ("new", {f"text.{key}": value for key, value in CLIP.items()} | CLIP)):
        torch.save(state, tmp_path / name)
        assert family_of(tmp_path / name).name == "openclip"


def test_what_is_of_no_family(tmp_path) -> None:
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "resnet.bin")
    with pytest.raises(InvalidInput) as file:
        load_source(str(tmp_path / "resnet.bin"))
    assert file.value.where == tmp_path / "resnet.bin"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InvalidInput) as folder:
        load_source(str(tmp_path / "folder"))
    assert folder.value.value == "bert"


def test_weights_of_a_path_are_its_own(tmp_path) -> None:
    torch.save(CLIP, tmp_path / "a.bin")
    with pytest.raises(InvalidInput) as twice:
        load_source(str(tmp_path / "a.bin"), tmp_path / "a.bin")
    assert twice.value.value == tmp_path / "a.bin"
    with pytest.raises(InvalidInput) as missing:
        load_source("openclip:ViT-B-32")
    assert missing.value.value == "ViT-B-32"


@pytest.mark.parametrize("source", ["chinese-clip:ViT-B-32", "paddle:CLIP_vit_base_patch32_224"])
def test_an_architecture_without_a_file(source) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_source(source)
    assert caught.value.value == source.partition(":")[2]


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14-336", "RN50"])
def test_candidates_are_those_of_the_same_shapes(name) -> None:
    found = candidates(shapes_of(name))
    assert name in found
    assert "ViT-H-14" not in found
    assert len(found) < 30


def test_an_architecture_that_cannot_be_told(tmp_path) -> None:
    state = {key: torch.zeros(()).expand(value.shape) for key, value in shapes_of("ViT-B-32").items()}
    torch.save(state, tmp_path / "b")
    with pytest.raises(InvalidInput) as caught:
        load_source(str(tmp_path / "b"))
    assert caught.value.value == ["ViT-B-32", "ViT-B-32-quickgelu"]
