"""From a configuration and a model to the stream of a run's batches. Knows which part needs which section."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tuwen.prepare.pixels import to_pixels
from tuwen.prepare.texts import Tokenizer
from tuwen.train.augment import Augment
from tuwen.train.collate import Collate
from tuwen.train.config import ImageChanges, TrainConfig
from tuwen.train.data import Plan, Stream
from tuwen.train.examples import Examples
from tuwen.train.listing import Listing
from tuwen.train.order import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from tuwen.models.towers import Towers
    from tuwen.types import Pixels


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
