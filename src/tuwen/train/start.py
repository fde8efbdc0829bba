"""The towers that a run begins with. Knows the configuration's `model`, and proves whether texts may be cut."""

from dataclasses import replace

from tuwen.models import trained
from tuwen.models.cut import cut_is_exact
from tuwen.models.towers import Towers
from tuwen.train.config import TrainConfig
from tuwen.train.opening import with_image

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
    return {
        name: value for name, value in towers.facts.items() if "@" not in name and not name.startswith("trained_")
    }
