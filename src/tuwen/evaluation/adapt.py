"""`tuwen.adapt`: a classifier from a few images of each class."""

from collections.abc import Sequence
from pathlib import Path

from tuwen.api import load
from tuwen.classify.adapter import Adapter
from tuwen.classify.labels import PLAIN
from tuwen.classify.learning import AUTO, Labelled, OnProgress, encode_labelled, learn
from tuwen.data.datasets import Dataset, open_dataset
from tuwen.data.samples import Columns
from tuwen.runtime.encoder import Encoder


def adapt(  # noqa: PLR0913  (what is learnt from, and how)
    model: str | Encoder,
    support: str | Path | Dataset | Labelled,
    *,
    method: str = AUTO,
    names: Sequence[str] | None = None,
    templates: Sequence[str] = (PLAIN,),
    columns: Columns | None = None,
    tune_on: str | Path | Dataset | Labelled | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Adapter:
    """Learn a classifier from a few images of each class. No part of the model is changed, and torch is not needed.

    Method and parameters are chosen on images of the support that are left out in turn: one of each class with up to
    four images a class, else five folds. With one image of a class nothing can be left out, and constants are taken.

    >>> adapter = tuwen.adapt("demo", "photos/")  # a folder for each class
    >>> adapter.method in ("zero-shot", "tip", "tip-f", "gda", "proker", "linear")
    True

    Args:
        model: a model's name or folder, or an encoder.
        support: a folder with a folder for each class, a table with a column of labels, or images encoded already.
        method: `zero-shot`, `tip`, `tip-f`, `gda`, `proker`, `linear`; or `auto`: `proker`, another one that is
            clearly better on left-out images, or zero-shot where that is clearly better. With one or two images a
            class: `proker` or zero-shot.
        names: what each class is called in a text; None: its own name with spaces for underscores.
        templates: prompt templates, see `fill`.
        columns: what columns of a table are called where not by their usual names.
        tune_on: other images to choose on in place of left-out ones; figures on them are then too good.
        seed: of the folds.
        on_progress: called with how many images are encoded, and how many there are.

    Returns:
        The adapter: `save` writes it, `Classifier.load` classifies with it.

    Raises:
        InvalidInput: the support has no two classes, a class has no image that can be read, or there is no such method.
        MissingExtra: scipy is not installed, which the methods that are trained need.
    """
    encoder = load(model) if isinstance(model, str) else model

    def encoded(images: str | Path | Dataset | Labelled) -> Labelled:
        if isinstance(images, Labelled):
            return images
        opened = images if isinstance(images, Dataset) else open_dataset(images, columns=columns)
        return encode_labelled(encoder, opened, on_progress)

    return learn(
        encoder,
        encoded(support),
        method=method,
        names=names,
        templates=templates,
        tune_on=None if tune_on is None else encoded(tune_on),
        seed=seed,
    )
