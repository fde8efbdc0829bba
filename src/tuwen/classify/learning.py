"""Learning a classifier: a few labelled images -> vectors -> the best few-shot method -> an adapter."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.classify import selection
from tuwen.classify.adapter import Adapter
from tuwen.classify.labels import PLAIN, label_vectors
from tuwen.classify.methods import METHODS, Support, softmax
from tuwen.classify.selection import Choice
from tuwen.data.datasets import Dataset
from tuwen.errors import InvalidInput
from tuwen.index.index import VectorIndex
from tuwen.runtime.encoder import Encoder
from tuwen.types import Rejected, Vectors

AUTO = "auto"
FALSE_REJECTS = 0.05
"""the share of left-out support images that `none_below` is chosen to reject wrongly"""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images as vectors.

    Attributes:
        classes: names of the classes, each with at least one image.
        vectors: (n, dim) unit rows.
        labels: (n,) class numbers.
        rejected: images that could not be read.
        warnings: what is odd about them.
    """

    classes: tuple[str, ...]
    vectors: Vectors
    labels: NDArray[np.int64]
    rejected: tuple[Rejected, ...] = ()
    warnings: tuple[str, ...] = ()


def encode_labelled(encoder: Encoder, dataset: Dataset, on_progress: OnProgress | None = None) -> Labelled:
    """Encode the images of a dataset that has classes.

    Raises:
        InvalidInput: it has no classes, or a class has no image that can be read, or an image has several classes.
    """
    if len(dataset.classes) < 2:
        hint = "put the images of each class into a folder, or name them in a column of labels"
        raise InvalidInput(f"{dataset.name} needs at least two classes: {hint}", value=dataset.name, hint=hint)
    labels, rejected, vectors = list[int](), list(dataset.missing), [np.empty((0, encoder.dim), dtype=np.float32)]
    warnings = list[str]()
    for batch in encoder.stream(_items(dataset, warnings)):  # type: ignore[arg-type]  # pairs and rejected ones
        labels += [key[0] for key in batch.keys]
        vectors.append(batch.vectors)
        rejected += batch.rejected
        if on_progress is not None:
            on_progress(len(labels) + len(rejected) - len(dataset.missing), len(dataset))
    found = np.array(labels, dtype=np.int64)
    empty = [name for number, name in enumerate(dataset.classes) if number not in labels]
    if empty:
        hint = "add images to these classes, or leave them out"
        names = ", ".join(empty[:5])
        raise InvalidInput(f"no image can be read of {len(empty)} classes ({names}): {hint}", value=empty, hint=hint)
    return Labelled(dataset.classes, np.concatenate(vectors), found, tuple(rejected), tuple(warnings))


def _items(dataset: Dataset, warnings: list[str]) -> Iterator[tuple[Any, bytes] | Rejected]:
    """The images with their classes; adds a warning for each image that is in two classes."""
    seen = dict[str, tuple[str, int]]()
    for number in range(len(dataset)):
        example = dataset[number]
        if isinstance(example, Rejected):
            yield example
        elif len(example.labels) != 1:
            yield Rejected(example.key, f"has {len(example.labels)} classes, not one")
        else:
            (label,) = example.labels
            key, other = seen.setdefault(hashlib.sha256(example.image).hexdigest(), (example.key, label))
            if other != label:
                names = f"{dataset.classes[other]} and {dataset.classes[label]}"
                warnings.append(f"{key} and {example.key} are the same image, in the classes {names}")
            yield _Key((label, example.key)), example.image


class _Key(tuple[int, str]):
    """A class number and a key. As text: the key, which a rejected image is listed by."""

    def __str__(self) -> str:
        return self[1]


def labelled_rows(index: VectorIndex, field: str, where: str | None = None) -> Labelled:
    """The images of an index, labelled by a field of their rows; nothing is encoded.

    Raises:
        InvalidInput: fewer than two values of the field are there.
    """
    found = [
        (row.id, str(row.payload[field]))
        for row in index.list(where)
        if row.payload.get("type") != "text" and row.payload.get(field) not in (None, "")
    ]
    classes = tuple(sorted({label for _, label in found}))
    if len(classes) < 2:
        hint = "name a field that tells classes apart, such as folder"
        raise InvalidInput(
            f"at least two classes are needed, and {field} gives {len(classes)}: {hint}", value=field, hint=hint
        )
    number = {name: place for place, name in enumerate(classes)}
    vectors = index.vectors([row for row, _ in found])
    return Labelled(
        classes,
        np.stack([vectors[row] for row, _ in found]).astype(np.float32),
        np.array([number[label] for _, label in found], dtype=np.int64),
    )


def learn(  # noqa: PLR0913  (what is learnt from, and how)
    encoder: Encoder,
    support: Labelled,
    *,
    method: str = AUTO,
    names: Sequence[str] | None = None,
    templates: Sequence[str] = (PLAIN,),
    tune_on: Labelled | None = None,
    seed: int = 0,
) -> Adapter:
    """Learn a classifier from labelled images.

    Args:
        encoder: the model.
        support: the images.
        method: one of `METHODS`, or `auto`, see `selection.best_of`.
        names: what each class is called in a text; None: its own name with spaces for underscores.
        templates: prompt templates.
        tune_on: images that parameters are chosen on in place of left-out ones. Figures on these images are then
            no estimate for others.
        seed: of the folds.

    Raises:
        InvalidInput: there is no such method, or the images to tune on have other classes.
        MissingExtra: scipy is not installed, for a method that is trained.
    """
    checked_method(method)
    called = names or [name.replace("_", " ") for name in support.classes]
    texts = label_vectors(called, templates, encoder).vectors
    seen = Support(support.vectors, support.labels, texts, encoder.scoring.scale)
    wanted = (
        selection.for_auto(seen, by_folds=tune_on is None)
        if method == AUTO
        else tuple(dict.fromkeys(("zero-shot", method)))
    )
    if tune_on is None:
        choices, truth = selection.choose(seen, wanted, seed=seed), seen.labels
    else:
        if tune_on.classes != support.classes:
            raise InvalidInput("the images to tune on have other classes than the support", where="tune_on")
        choices, truth = selection.choose_on(seen, tune_on.vectors, tune_on.labels, wanted), tune_on.labels
    best = selection.best_of(choices) if method == AUTO else choices[method]
    labels = truth[best.rows]
    temperature = selection.temperature(best.logits, labels)
    none_below, rejects = _threshold(best, temperature)
    return Adapter(
        classes=support.classes,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        method=best.method,
        parameters=dict(best.parameters),
        scale=encoder.scoring.scale,
        texts=texts,
        residual=METHODS[best.method].fit(seen, best.parameters),
        temperature=temperature,
        none_below=none_below,
        measured={
            "on": "left-out support images" if tune_on is None else "the images that it was tuned on",
            "images": len(best.rows),
            "support": len(seen.labels),
            "accuracy": {name: choice.accuracy for name, choice in choices.items()},
            "false_rejects": rejects,
        },
    )


def checked_method(method: str) -> str:
    """A method, or `auto`.

    Raises:
        InvalidInput: it is neither.
    """
    if method != AUTO and method not in METHODS:
        hint = f"choose one of {AUTO}, {', '.join(METHODS)}"
        raise InvalidInput(f"there is no method {method}: {hint}", value=method, where="method", hint=hint)
    return method


def _threshold(best: Choice, temperature: float) -> tuple[float | None, float | None]:
    """The highest probability that no more than 5 % of the left-out images stay below, and how many do."""
    if not len(best.rows):
        return None, None
    highest = softmax(best.logits / temperature).max(axis=1)
    threshold = float(np.sort(highest)[int(FALSE_REJECTS * len(highest))])
    return threshold, float((highest < threshold).mean())
