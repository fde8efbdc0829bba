"""Zero-shot classification: how well each of a set of labels fits an image."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.manifest import Scoring
from tuwen.classify.adapter import Adapter
from tuwen.classify.labels import PLAIN, LabelVectors, checked_labels, label_vectors
from tuwen.errors import InvalidInput, RejectedImages
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import BATCH, ImageSource
from tuwen.types import Rejected, Vectors


@dataclass(frozen=True, slots=True)
class Label:
    """How well a label fits an image.

    Attributes:
        label: the label.
        probability: in 0..1, see `probabilities`.
        cosine: the similarity of the two vectors.
    """

    label: str
    probability: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of an image.

    Attributes:
        path: the image's path, or `images[N]` for one without a path.
        labels: all labels, best first.
        none: whether none of the labels fits, by the threshold `none_below`.
    """

    path: str
    labels: tuple[Label, ...]
    none: bool = False

    @property
    def best(self) -> Label | None:
        """The best label; None where none of them fits."""
        return None if self.none else self.labels[0]


@dataclass(frozen=True, slots=True)
class Predictions:
    """A batch of images: their labels, and the images that could not be read."""

    predictions: tuple[Prediction, ...]
    rejected: tuple[Rejected, ...]


class Classifier:
    """Finds the labels that fit an image, with a model that has not been trained on these labels.

    >>> import tuwen
    >>> encoder = tuwen.load("demo")
    >>> classifier = encoder.classifier(["dog", "cat", "car"], template="a picture of a _")
    >>> from tuwen.demo import demo_gallery
    >>> prediction, = classifier.predict([demo_gallery() / "animals-and-nature" / "dog-face.webp"])
    >>> prediction.labels[0].label
    'dog'

    Attributes:
        labels: the labels, as they were given.
        multi_label: whether each label is judged by itself.
    """

    def __init__(
        self,
        encoder: Encoder,
        labels: Sequence[str],
        *,
        template: str | Sequence[str] = PLAIN,
        multi_label: bool = False,
    ) -> None:
        """Encode the labels.

        Args:
            encoder: the model.
            labels: at least one, all different.
            template: a sentence with one `_` or `{}` for the label, or several whose vectors are averaged.
            multi_label: judge each label by itself instead of against the others, see `probabilities`.

        Raises:
            InvalidInput: no label, a label twice, or a template that has not exactly one place for the label.
        """
        self.labels = checked_labels(labels, "labels")
        self.multi_label = multi_label
        self._encoder = encoder
        templates = [template] if isinstance(template, str) else template
        self._vectors = label_vectors(self.labels, templates, encoder)
        self._adapter: Adapter | None = None

    @classmethod
    def load(cls, folder: Path | str, encoder: Encoder) -> Self:
        """A classifier learnt from a few images of each class, see `tuwen.adapt`.

        Args:
            folder: the adapter's.
            encoder: the model that it belongs to.

        Raises:
            InvalidInput: it is not an adapter.
            WrongModel: it belongs to another model.
        """
        adapter = Adapter.load(folder)
        adapter.check(encoder.name, encoder.fingerprint)
        classifier = cls.__new__(cls)
        classifier.labels, classifier.multi_label = adapter.classes, False
        classifier._encoder, classifier._adapter = encoder, adapter
        return classifier

    def predict(
        self, images: Path | str | Iterable[ImageSource], *, none_below: float | None = None
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: paths, contents of files, or Pillow images; a single path stands for that file, or for all
                images below that folder.
            none_below: see `predictions`.

        Returns:
            A prediction for each image, in their order.

        Raises:
            RejectedImages: some cannot be read; all of these are named. `stream` goes on without them.
        """
        found: list[Prediction] = []
        rejected: list[Rejected] = []
        for batch in self.stream(images, none_below=none_below):
            found += batch.predictions
            rejected += batch.rejected
        if rejected:
            raise RejectedImages(rejected)
        return found

    def stream(
        self, images: Path | str | Iterable[ImageSource], *, none_below: float | None = None, batch: int = BATCH
    ) -> Generator[Predictions]:
        """Classify any number of images in bounded memory; see `predict` and `Encoder.stream`."""
        for encoded in self._encoder.stream(images, batch=batch):
            if self._adapter is not None:
                found = adapted(encoded.keys, encoded.vectors, self._adapter, none_below)
                yield Predictions(tuple(found), encoded.rejected)
                continue
            found = predictions(
                encoded.keys,
                encoded.vectors,
                self._vectors,
                self._encoder.scoring,
                multi_label=self.multi_label,
                none_below=none_below,
            )
            yield Predictions(tuple(found), encoded.rejected)


def predictions(
    paths: Sequence[str],
    vectors: Vectors,
    labels: LabelVectors,
    scoring: Scoring,
    *,
    multi_label: bool,
    none_below: float | None = None,
) -> list[Prediction]:
    """The labels of each image, best first; labels of equal probability by their cosine.

    Args:
        paths: n of them.
        vectors: (n, dim) unit rows.
        labels: what the images may show.
        scoring: the model's.
        multi_label: see `probabilities`.
        none_below: no label fits an image whose best label, judged by itself, has a lower probability than this.
            Judged by itself means as with `multi_label`: it does not matter which other labels there are.

    Raises:
        InvalidInput: `none_below` is no probability.
    """
    if none_below is not None:
        _checked(none_below)
    cosines, neutral = vectors @ labels.vectors.T, vectors @ labels.neutral
    scores = probabilities(cosines, neutral, scoring, multi_label=multi_label)
    alone = probabilities(cosines, neutral, scoring, multi_label=True).max(axis=1)
    none = alone < none_below if none_below is not None else np.zeros(len(vectors), dtype=bool)
    return [
        Prediction(path, _ranked(labels.labels, scores[row], cosines[row]), bool(none[row]))
        for row, path in enumerate(paths)
    ]


def adapted(
    paths: Sequence[str], vectors: Vectors, adapter: Adapter, none_below: float | None = None
) -> list[Prediction]:
    """As `predictions`, by an adapter: probabilities are its own, and the best one is what `none_below` is about.

    `none_below`: None: what was measured with the adapter.
    """
    checked = _checked(none_below) if none_below is not None else adapter.none_below or 0.0
    cosines, scores = vectors @ adapter.texts.T, adapter.probabilities(vectors)
    found = []
    for row, path in enumerate(paths):
        order = np.argsort(-scores[row], kind="stable")
        labels = (Label(adapter.classes[one], float(scores[row, one]), float(cosines[row, one])) for one in order)
        found.append(Prediction(path, tuple(labels), bool(scores[row].max() < checked)))
    return found


def _checked(none_below: float) -> float:
    if not 0 <= none_below <= 1:
        raise InvalidInput(
            f"none_below is {none_below}: it is a probability, from 0 to 1", value=none_below, where="none_below"
        )
    return none_below


def _ranked(labels: Sequence[str], scores: NDArray[np.float64], cosines: NDArray[np.float32]) -> tuple[Label, ...]:
    order = np.argsort(-cosines, kind="stable")
    return tuple(Label(labels[place], float(scores[place]), float(cosines[place])) for place in order)


def probabilities(
    cosines: NDArray[np.float32], neutral: NDArray[np.float32], scoring: Scoring, *, multi_label: bool
) -> NDArray[np.float64]:
    """Cosines to probabilities, with the scale and bias of the model's own checkpoint.

    - A softmax model: `softmax(scale * cosine)` over the labels. They compete, and sum to 1.
    - A softmax model, `multi_label`: each label against the same template without any label,
      `sigmoid(scale * (cosine - neutral))`, which is the softmax over the two. A label's probability does not
      depend on the other labels.
    - A sigmoid model: `sigmoid(scale * cosine + bias)`, each label by itself, as it was trained.

    Args:
        cosines: (images, labels).
        neutral: (images,) cosines to the templates without a label.
        scoring: the model's.
        multi_label: whether labels are judged independently.

    Returns:
        (images, labels), each in 0..1.
    """
    logits = scoring.scale * cosines.astype(np.float64)
    if scoring.kind == "sigmoid":
        return _sigmoid(logits + scoring.bias)
    if multi_label:
        return _sigmoid(logits - scoring.scale * neutral[:, None].astype(np.float64))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without overflow for large negative numbers."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
