import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import original_formats, tiny_transformers
from models.openclip_zoo import write_layout
from tuwen.errors import InvalidInput
from tuwen.exporting.samples import TEXTS
from tuwen.models import openclip
from tuwen.models.sources import build, load_source
from tuwen.models.towers import Towers
from tuwen.models.trained import FILE, Recipe, Trained, definition_of, save, weights_of

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32},
    "text_cfg": {"layers": 1, "width": 32, "heads": 2},
}


def made(seed: int = 0, **changes: object) -> Towers:
    """What a function of a user's own may return."""
    return openclip.load("ViT-B-32", tag="openai", seed=seed, overrides=SMALL | changes)


def not_towers() -> str:
    return "towers"


def kept(folder: Path, recipe: Recipe) -> Towers:
    """A checkpoint of towers that have moved, and they."""
    towers = build(recipe)
    with torch.no_grad():
        for parameter in (*towers.vision.parameters(), *towers.text.parameters()):
            parameter.add_(0.01)
    spec = towers.image_spec.model_copy(update={"resize": "squash"})
    facts = Trained(
        recipe=recipe,
        name="mine",
        licence="MIT",
        image=spec,
        scoring=towers.scoring,
        facts={"step": 3},
        definition=definition_of(towers),
    )
    states = {"vision": towers.vision.state_dict(), "text": towers.text.state_dict()}
    save(folder, facts, states, towers.tokenizer)
    return replace(towers, image_spec=spec)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(source="openclip:ViT-B-32/openai", scratch=True, seed=3, overrides=SMALL),
        Recipe(source=f"python:{__name__}:made", overrides={"seed": 5}),
    ],
    ids=["scratch", "python"],
)
def test_a_checkpoint_is_a_source(tmp_path: Path, recipe: Recipe) -> None:
    towers = kept(tmp_path, recipe)
    for source in (str(tmp_path), f"trained:{tmp_path}"):
        found = load_source(source)
        assert (found.name, found.licence, found.image_spec.resize) == ("mine", "MIT", "squash")
        assert found.facts["step"] == 3
        wanted = weights_of(towers)
        assert all(torch.equal(value, wanted[name]) for name, value in found.weights.items())
        pixels = torch.randn(2, 3, 32, 32)
        assert torch.equal(found.vision.eval()(pixels), towers.vision.eval()(pixels))


FORMATS = {
    "openclip": lambda folder: Recipe(source=str(write_layout("xlm-roberta-base-ViT-B-32", folder) and folder)),
    "clip": lambda folder: Recipe(source=str(tiny_transformers.write(folder, "clip"))),
    "chinese_clip": lambda folder: Recipe(source=str(tiny_transformers.write(folder, "chinese_clip"))),
    "altclip": lambda folder: Recipe(source=str(tiny_transformers.write(folder, "altclip"))),
    "siglip2": lambda folder: Recipe(source=str(tiny_transformers.write(folder, "siglip2"))),
    "chinese-clip": lambda folder: Recipe(source=str(original_formats.chinese_clip(folder).path)),
    "flagai": lambda folder: Recipe(source=str(original_formats.flagai(folder).path)),
    "paddle": lambda folder: Recipe(source=str(original_formats.paddle(folder).path)),
}


QUICK = ("openclip", "siglip2", "chinese-clip")


@pytest.mark.parametrize(
    "family", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in FORMATS if name not in QUICK)]
)
def test_a_checkpoint_needs_nothing_of_what_it_began_with(tmp_path: Path, family: str) -> None:
    began = tmp_path / "began"
    began.mkdir()
    (tmp_path / "trained").mkdir()
    towers = kept(tmp_path / "trained", FORMATS[family](began))
    wanted = towers.to_tokens(TEXTS)
    shutil.rmtree(began)
    found = load_source(str(tmp_path / "trained"))
    pixels, tokens = torch.randn(2, 3, *towers.image_spec.size), found.to_tokens(TEXTS)
    assert (found.family, found.text_spec) == (towers.family, towers.text_spec)
    assert (tokens.ids.tolist(), tokens.lengths.tolist()) == (wanted.ids.tolist(), wanted.lengths.tolist())
    torch.testing.assert_close(found.vision.eval()(pixels), towers.vision.eval()(pixels))
    ids = torch.from_numpy(tokens.ids[:3])
    inputs = (ids, (torch.arange(ids.shape[1]) < torch.from_numpy(tokens.lengths[:3, None])).long())
    inputs = inputs[: 1 + towers.text_spec.mask]
    torch.testing.assert_close(found.text.eval()(*inputs), towers.text.eval()(*inputs))


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_random_weights_of_transformers(tmp_path: Path, kind: str) -> None:
    folder = tiny_transformers.write(tmp_path, kind)
    (folder / "model.safetensors").unlink()
    recipe = Recipe(source=f"hf:{folder}", scratch=True, seed=3, overrides={"vision_config": {"num_hidden_layers": 3}})
    one, same, other = build(recipe), build(recipe), build(recipe.model_copy(update={"seed": 4}))
    assert len(one.vision.tower.encoder.layers) == 3
    assert len(one.text.tower.encoder.layers) == 2
    assert all(torch.equal(tensor, same.weights[name]) for name, tensor in one.weights.items())
    assert not all(torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items())


@pytest.mark.parametrize(
    ("recipe", "value"),
    [
        (Recipe(source=f"python:{__name__}:not_towers"), "str"),
        (Recipe(source=f"python:{__name__}:not_towers", overrides={"colour": 3}), {"colour": 3}),
        (Recipe(source="python:no.such:module"), "python:no.such:module"),
        (Recipe(source="python:json"), "python:json"),
        (Recipe(source="hf:folder", scratch=True), "hf:folder"),
    ],
)
def test_a_recipe_that_cannot_be_built_is_refused(recipe: Recipe, value: object) -> None:
    with pytest.raises(InvalidInput) as raised:
        build(recipe)
    assert raised.value.value == value


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    kept(tmp_path, Recipe(source="openclip:ViT-B-32/openai", scratch=True, overrides=SMALL))
    with pytest.raises(InvalidInput):
        load_source(f"trained:{tmp_path}", tmp_path / "weights.pt")
    whole = (tmp_path / "weights.pt").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no weights"):
        (tmp_path / "weights.pt").write_bytes(broken)
        with pytest.raises(InvalidInput) as damaged:
            load_source(f"trained:{tmp_path}")
        assert damaged.value.where == tmp_path / "weights.pt"
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(InvalidInput) as invalid:
        load_source(f"trained:{tmp_path}")
    assert invalid.value.where == tmp_path
