"""The towers that a run begins with. Knows the configuration's `model`, and proves whether texts may be cut."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.models import trained
from tuwen.models.towers import Towers, cut_is_exact
from tuwen.training.augment import Augment
from tuwen.training.config import ImageChanges, TrainConfig
from tuwen.training.data import Collate, Examples, Plan, Stream
from tuwen.training.order import Part
from tuwen.training.pairs import Listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from tuwen.types import Pixels


# ---- From a configuration and a model to the stream of a run's batches


def open_stream(config: TrainConfig, towers: "Towers", part: Part = Part()) -> Stream:  # noqa: B008  (frozen)
    """List the pairs and stand before the first batch.

    Texts are cut where `data.cut` is set and `towers.text_spec.cut_exact` says that it changes nothing.

    Raises:
        InvalidInput: a source cannot be used, or there are too few pairs.
        MissingExtra: a package that a source or an augmentation needs is not installed.
    """
    data, run = config.data, config.run
    assert data is not None, "an objective of one's own has its own batches"
    plan = Plan(
        batch=run.batch,
        seed=run.seed,
        part=part,
        workers=run.workers,
        buffer=data.buffer if data.shuffle else None,
        drop_last=data.drop_last,
        max_bad=data.max_bad,
    )
    examples = Examples(data, Augment(config.augment, towers.image_spec), run.seed)
    to_tokens = Tokenizer(towers.tokenizer, towers.text_spec).to_tokens
    collate = Collate(towers.text_spec, to_tokens, cut=data.cut and towers.text_spec.cut_exact)
    return Stream(Listing(data.train), examples, collate, plan)


def with_image(towers: "Towers", changes: ImageChanges) -> "Towers":
    """The model with its pictures prepared otherwise, if anything is to change; the bundle will say so."""
    said = changes.model_dump(exclude_none=True)
    if not said:
        return towers
    spec = type(towers.image_spec).model_validate(towers.image_spec.model_dump() | said)

    def prepared(images: "Sequence[Image.Image]") -> "Pixels":
        return to_pixels(spec, images)

    return replace(towers, image_spec=spec, to_pixels=prepared)


# ---- The towers that a run begins with

_TEXTS = (
    "",
    "a",
    "two dogs",
    "一只狗在草地上奔跑",
    "ein Fahrrad steht vor einem roten Haus",
    "a photo of a small brown dog that runs over wet grass with a yellow ball in its mouth, seen from the side",
)
"""of many lengths: what a cut text is compared on with a padded one"""


def beginning(config: TrainConfig) -> tuple[trained.Recipe, Towers]:
    """How the towers are made, and they.

    Raises:
        InvalidInput: the source cannot be used.
    """
    model = config.model
    recipe = trained.Recipe(
        source=model.source,
        weights=model.weights.resolve() if model.weights else None,
        arch=model.arch,
        scratch=model.scratch,
        seed=config.run.seed if model.seed is None else model.seed,
        overrides=model.overrides,
    )
    towers = with_image(trained.build(recipe), model.image)
    exact = cut_is_exact(towers.text, towers.to_tokens(_TEXTS), mask=towers.text_spec.mask)
    text_spec = towers.text_spec.model_copy(update={"cut_exact": exact})
    return recipe, replace(towers, text_spec=text_spec, facts=_lasting(towers))


def _lasting(towers: Towers) -> dict[str, str | int | float | bool]:
    """What stays true of towers that are trained on: not how good an earlier run found them, nor its length."""
    return {name: value for name, value in towers.facts.items() if "@" not in name and not name.startswith("trained_")}
