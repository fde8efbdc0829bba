from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tuwen.errors import InvalidInput
from tuwen.models import openclip
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers
from tuwen.models.trained import FILE, Recipe, Trained, build, save, weights_of

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
        recipe=recipe, name="mine", licence="MIT", image=spec, scoring=towers.scoring, facts={"step": 3}
    )
    save(folder, facts, {"vision": towers.vision.state_dict(), "text": towers.text.state_dict()})
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


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(source=f"python:{__name__}:not_towers"), "returns str, not tuwen.models.towers.Towers"),
        (Recipe(source="python:no.such:module"), "cannot be imported: No module named 'no'"),
        (Recipe(source="python:json"), "write python:package.module:function"),
        (Recipe(source="hf:folder", scratch=True), "random weights are of openclip:ARCHITECTURE"),
    ],
)
def test_what_makes_no_towers_is_told(recipe: Recipe, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        build(recipe)


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    kept(tmp_path, Recipe(source="openclip:ViT-B-32/openai", scratch=True, overrides=SMALL))
    with pytest.raises(InvalidInput, match="leave the weights and the architecture out"):
        load_source(f"trained:{tmp_path}", tmp_path / "weights.pt")
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(InvalidInput, match="is no checkpoint of a training run"):
        load_source(f"trained:{tmp_path}")
