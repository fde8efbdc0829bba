"""Checkpoints of training: how the towers were made, and their trained weights.

A checkpoint's folder contains `tuwen-training.json` (what the towers are and how they are used), `tokenizer.json` and
`weights.pt`.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from tuwen.bundle.manifest import TOKENIZER, ImageSpec, Scoring, TextSpec
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput
from tuwen.models import openclip
from tuwen.models import transformers as huggingface
from tuwen.models.towers import ToPixels, Towers
from tuwen.types import Pixels

PREFIX = "python:"


def call(name: str, *arguments: object, **settings: object) -> Any:  # noqa: ANN401  (whatever it returns)
    """Call the function named `python:package.module:function`.

    Raises:
        InvalidInput: there is no such function, or it does not accept these arguments.
    """
    function = _function_of(name)
    try:
        inspect.signature(function).bind(*arguments, **settings)
    except TypeError as error:
        raise InvalidInput(f"{name} does not accept its arguments: {error}", value=settings, where=name) from error
    return function(*arguments, **settings)


def _function_of(name: str) -> Callable[..., Any]:
    """The function named `python:package.module:function`; modules in the working folder are found too.

    Raises:
        InvalidInput: there is no such module, or it has no such function.
    """
    module, _, attribute = name.removeprefix(PREFIX).partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        hint = f"write {PREFIX}package.module:function"
        raise InvalidInput(f"{name} cannot be imported: {error}; {hint}", value=name, hint=hint) from error
    return function


FILE = "tuwen-training.json"
WEIGHTS = "weights.pt"


class Recipe(BaseModel):
    """How to build towers before they are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    weights: Path | None = None
    arch: str | None = None
    scratch: bool = False
    seed: int = 0
    overrides: dict[str, Any] = {}


class Definition(BaseModel):
    """A description of the towers that does not need the file of their first weights; see `Towers`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    text: TextSpec
    blueprint: dict[str, Any]


class Trained(BaseModel):
    """The content of `tuwen-training.json`. Without a definition, the towers are rebuilt from the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    recipe: Recipe
    name: str
    licence: str
    image: ImageSpec
    scoring: Scoring
    facts: dict[str, str | int | float | bool] = {}
    definition: Definition | None = None


def definition_of(towers: Towers) -> Definition | None:
    """The definition to store for towers that have a blueprint."""
    if towers.blueprint is None:
        return None
    return Definition(family=towers.family, text=towers.text_spec, blueprint=dict(towers.blueprint))


def save(folder: Path, trained: Trained, states: Mapping[str, Mapping[str, torch.Tensor]], tokenizer: bytes) -> None:
    """Write a checkpoint's files into a folder.

    Args:
        folder: the folder to write to.
        trained: the description of the towers.
        states: the state dictionaries of `vision` and `text`.
        tokenizer: the bytes of `tokenizer.json`.
    """
    (folder / FILE).write_text(trained.model_dump_json(indent=2), encoding="utf-8")
    (folder / TOKENIZER).write_bytes(tokenizer)
    torch.save({name: dict(states[name]) for name in ("vision", "text")}, folder / WEIGHTS)


def load(folder: Path, build: Callable[[Recipe], Towers]) -> Towers:
    """Load the towers with their trained weights.

    Args:
        folder: a checkpoint.
        build: builds the towers of a recipe, for checkpoints without a definition.

    Raises:
        InvalidInput: the folder is not a checkpoint of a training run, or is damaged; or it has no definition, and
            the file that it was made from is missing.
    """
    try:
        trained = Trained.model_validate_json((folder / FILE).read_bytes())
        states = _states(folder / WEIGHTS)
        tokenizer = (folder / TOKENIZER).read_bytes() if trained.definition else b""
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"{folder} is not a checkpoint of a training run: {reason}", where=folder) from error
    known = trained.definition
    towers = build(trained.recipe) if known is None else _rebuilt(trained, known, tokenizer)
    towers.vision.load_state_dict(states["vision"])
    towers.text.load_state_dict(states["text"])
    changed = trained.image != towers.image_spec
    return replace(
        towers,
        name=trained.name,
        source=str(folder),
        licence=trained.licence or towers.licence,
        image_spec=trained.image,
        to_pixels=_prepared(trained.image) if changed else towers.to_pixels,
        scoring=trained.scoring,
        weights=weights_of(towers),
        facts=dict(towers.facts) | trained.facts,
    )


def _states(weights: Path) -> dict[str, dict[str, torch.Tensor]]:
    try:
        found: dict[str, dict[str, torch.Tensor]] = torch.load(weights, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, LookupError, EOFError, UnpicklingError) as error:
        hint = "copy it again, or use another checkpoint of the run"
        raise InvalidInput(f"{weights} is damaged: {hint}", where=weights, hint=hint) from error
    return found


def _rebuilt(trained: Trained, known: Definition, tokenizer: bytes) -> Towers:
    """Rebuild the towers without their weights. The preprocessing used in training is their reference."""
    modules = known.blueprint
    rebuilt = openclip.rebuilt if "open_clip" in modules else huggingface.rebuilt
    vision, text = rebuilt(modules)
    padded = known.text.model_copy(update={"pad_to": "context"})
    return Towers(
        name=trained.name,
        family=known.family,
        source=trained.recipe.source,
        vision=vision,
        text=text,
        image_spec=trained.image,
        text_spec=known.text,
        scoring=trained.scoring,
        tokenizer=tokenizer,
        weights={},
        to_pixels=_prepared(trained.image),
        to_tokens=Tokenizer(tokenizer, padded).to_tokens,
        blueprint=modules,
    )


def weights_of(towers: Towers) -> dict[str, torch.Tensor]:
    """Every tensor of both towers, by name."""
    named = {"vision": towers.vision, "text": towers.text}
    return {f"{name}.{key}": value for name, tower in named.items() for key, value in tower.state_dict().items()}


def _prepared(spec: ImageSpec) -> ToPixels:
    def prepared(images: Sequence[Image.Image]) -> Pixels:
        return to_pixels(spec, images)

    return prepared
