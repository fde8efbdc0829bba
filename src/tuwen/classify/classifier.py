"""Pictures and labels -> how well each label fits each picture.

Knows what a probability means for each kind of model. Does not know where labels come from.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.manifest import Scoring
from tuwen.classify.labels import LabelVectors
from tuwen.data.decode import Reading, read_image
from tuwen.data.files import Skipped, find_files, key_of
from tuwen.data.pixels import to_pixels
from tuwen.runtime.pipeline import ahead, grouped, threads
from tuwen.types import Pixels, Rejected, Source, Vectors

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder

BATCH = 32
"""pictures encoded at a time"""


@dataclass(frozen=True, slots=True)
class Label:
    """How well a label fits a picture: see `probabilities`; `cosine` is the plain similarity of the two vectors."""

    label: str
    probability: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Classified:
    """A picture's labels, best first. `path` is relative to the folder that was given."""

    path: str
    labels: tuple[Label, ...]


def probabilities(
    cosines: NDArray[np.float32], neutral: NDArray[np.float32], scoring: Scoring, *, multi_label: bool
) -> NDArray[np.float64]:
    """Cosines -> probabilities, with the model's own scale and bias, read from its checkpoint.

    - A softmax model: `softmax(scale * cosine)` over the labels. They compete, and sum to 1.
    - A softmax model, `multi_label`: each label against the same template without any label,
      `sigmoid(scale * (cosine - neutral))`, which is the softmax over the two. A label's probability does not
      depend on the other labels.
    - A sigmoid model: `sigmoid(scale * cosine + bias)`, each label by itself, as it was trained.

    Args:
        cosines: (pictures, labels).
        neutral: (pictures,) cosines to the templates without a label.
        scoring: the model's.
        multi_label: whether labels shall be judged independently.

    Returns:
        (pictures, labels), each in 0..1.
    """
    logits = scoring.scale * cosines.astype(np.float64)
    if scoring.kind == "sigmoid":
        return _sigmoid(logits + scoring.bias)
    if multi_label:
        return _sigmoid(logits - scoring.scale * neutral[:, None].astype(np.float64))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def rank(vectors: Vectors, labels: LabelVectors, scoring: Scoring, *, multi_label: bool) -> list[tuple[Label, ...]]:
    """The labels of each picture, best first; labels of equal probability by their cosine.

    Args:
        vectors: (pictures, dim) unit rows.
        labels: what the pictures may show.
        scoring: the model's.
        multi_label: see `probabilities`.
    """
    cosines = vectors @ labels.vectors.T
    chances = probabilities(cosines, vectors @ labels.neutral, scoring, multi_label=multi_label)
    return [
        tuple(
            Label(labels.labels[i], float(chance[i]), float(cosine[i]))
            for i in sorted(range(len(cosine)), key=lambda i: -cosine[i])
        )
        for chance, cosine in zip(chances, cosines, strict=True)
    ]


def classify(
    path: Path, labels: LabelVectors, encoder: "Encoder", *, reading: Reading, decoders: int, multi_label: bool
) -> Generator[list[Classified | Rejected]]:
    """Label a picture, or every picture below a folder.

    Args:
        path: a picture or a folder. Files of a folder that are no pictures are passed over.
        labels: see `label_vectors`; made once for all pictures.
        encoder: the model.
        reading: how pictures are decoded.
        decoders: threads that read and decode.
        multi_label: see `probabilities`.

    Yields:
        The results of one batch after the other, in the order of the paths.
    """
    found = find_files([path], path) if path.is_dir() else [Source(key_of(path, path.parent), path, 0, 0.0)]
    items = (item for item in found if not isinstance(item, Skipped))

    def prepare(item: Source | Rejected) -> tuple[str, Pixels] | Rejected:
        if isinstance(item, Rejected):
            return item
        picture = read_image(item.path, item.key, reading)
        if isinstance(picture, Rejected):
            return picture
        return item.key, to_pixels(encoder.image_spec, [picture.image])

    with threads(decoders) as decoding:
        for batch in grouped(ahead(decoding, prepare, items, early=2 * BATCH), BATCH):
            yield _label(batch, labels, encoder, multi_label=multi_label)


def _label(
    batch: Sequence[tuple[str, Pixels] | Rejected], labels: LabelVectors, encoder: "Encoder", *, multi_label: bool
) -> list[Classified | Rejected]:
    readable = [item for item in batch if not isinstance(item, Rejected)]
    if not readable:
        return [item for item in batch if isinstance(item, Rejected)]
    vectors = encoder.encode_pixels(np.concatenate([pixels for _, pixels in readable]))
    ranked = iter(rank(vectors, labels, encoder.scoring, multi_label=multi_label))
    return [item if isinstance(item, Rejected) else Classified(item[0], next(ranked)) for item in batch]


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without overflow for large negative numbers."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
