import re
from pathlib import Path

import pytest
import torch

from models import tiny_transformers
from tuwen.models.sources import load_source
from tuwen.models.torchvision import import_open_clip
from tuwen.training.config import OptimizerConfig
from tuwen.training.model import blocks, placed
from tuwen.training.optimizer import Schedule, adamw, groups, table

from .towers import inputs, keys, small_pair


def test_every_parameter_is_in_one_group() -> None:
    pair = small_pair(loss="siglip")
    names = [name for group in groups(pair, 0.5) for name in group.names]
    assert sorted(names) == sorted(name for name, _ in pair.named_parameters())


def test_layer_decay_by_depth() -> None:
    shares = {name: group.share for group in groups(small_pair(), 0.5) for name in group.names}
    assert shares["vision.tower.conv1.weight"] == 0.5**3
    assert shares["vision.tower.class_embedding"] == 0.5**3
    assert shares["vision.tower.transformer.resblocks.0.attn.in_proj_weight"] == 0.5
    assert shares["vision.tower.transformer.resblocks.1.mlp.c_fc.bias"] == 1
    assert shares["vision.tower.ln_post.weight"] == shares["vision.tower.proj"] == 1
    assert shares["text.tower.token_embedding.weight"] == shares["text.tower.positional_embedding"] == 0.5**3
    assert shares["text.tower.text_projection"] == shares["log_scale"] == 1


def test_only_matrices_decay() -> None:
    pair = small_pair()
    for group in groups(pair, 0.5):
        for name, parameter in zip(group.names, group.parameters, strict=True):
            assert group.decayed == (parameter.ndim > 1), name


@pytest.mark.parametrize("architecture", ["RN50", "convnext_base", "EVA02-B-16", "swin_base_patch4_window7_224"])
def test_depths_of_other_architectures(architecture: str) -> None:
    """Stems lie before the blocks, heads after, on towers that are no plain transformers."""
    open_clip = import_open_clip()
    config = open_clip.get_model_config(architecture)
    config.pop("custom_text", None)
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    with torch.device("meta"):
        tower = open_clip.CustomTextCLIP(**config).visual
    depth = {item.name: item.depth for item in placed(tower)}
    count = len(blocks(tower))
    assert (
        count == {"RN50": 16, "convnext_base": 36, "EVA02-B-16": 12, "swin_base_patch4_window7_224": 24}[architecture]
    )
    stem = {"RN50": "conv1", "EVA02-B-16": "trunk.patch_embed.proj", "convnext_base": "trunk.stem.0"}
    head = {"RN50": "attnpool.c_proj", "EVA02-B-16": "trunk.head"}
    assert depth[stem.get(architecture, "trunk.patch_embed.proj") + ".weight"] == 0
    assert depth[head.get(architecture, "head.proj") + ".weight"] == count + 1
    assert set(depth.values()) == set(range(count + 2))


@pytest.mark.parametrize("kind", ["clip", "chinese_clip", "altclip", "siglip"])
def test_depths_of_transformers_towers(kind: str, tmp_path: Path) -> None:
    towers = load_source(str(tiny_transformers.write(tmp_path, kind)))
    for tower in (towers.vision, towers.text):
        for item in placed(tower):
            number = re.search(r"\.encoder\.layers?\.(\d)\.", item.name)
            before = ".embeddings." in item.name or ".pre_layrnorm." in item.name
            assert item.depth == (int(number[1]) + 1 if number else 0 if before else 3), item.name
        assert {item.depth for item in placed(tower)} == {0, 1, 2, 3}


def test_steps_follow_the_shares() -> None:
    """AdamW's first step is the rate itself, whatever the gradient: so each tensor moves by its own rate."""
    pair = small_pair()
    trained = groups(pair, 0.5)
    optimizer = adamw(trained, OptimizerConfig(lr=1e-3, weight_decay=0.0, eps=1e-12))
    before = {name: value.detach().clone() for name, value in pair.named_parameters()}
    from tuwen.training.gradients import Backward
    from tuwen.training.loss import info_nce

    Backward(pair=pair, loss=info_nce)(inputs(6), keys(6))
    Schedule(steps=10, warmup=0, start=0.0, peak=1e-3, end=0.0).apply(optimizer, 5)
    optimizer.step()
    for name, value in pair.named_parameters():
        share = next(group.share for group in trained if name in group.names)
        moved = float((value.detach() - before[name]).abs().max())
        assert moved == pytest.approx(0.5e-3 * share, rel=1e-2), name


def test_what_is_locked_is_in_no_group() -> None:
    pair = small_pair()
    pair.lock(vision=1, text="all")
    names = [name for group in groups(pair, 1.0) for name in group.names]
    assert not any(name.startswith("text.") or ".resblocks.0." in name or "conv1" in name for name in names)
    assert "vision.tower.transformer.resblocks.1.mlp.c_fc.weight" in names
    assert "vision.tower.proj" in names


def test_the_table_names_all() -> None:
    pair = small_pair()
    rows = list(table(groups(pair, 0.5), rate=1e-3, weight_decay=0.2))
    assert ("vision", "block 1", "0.0005", "0.2") in [row[:4] for row in rows]
    parts = list(dict.fromkeys(row[:2] for row in rows))
    inside = ["embeddings", "block 1", "block 2", "head"]
    assert parts == [
        *(("vision", part) for part in inside),
        *(("text", part) for part in inside),
        ("scale", "scale"),
    ]
    numbers = sum(int(row[4].replace(",", "")) for row in rows)
    assert numbers == sum(parameter.numel() for parameter in pair.parameters())
