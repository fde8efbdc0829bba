"""How good the towers are by now, through the encoder that also serves: recall both ways, zero-shot accuracy.

Knows an encoder, pairs that are never trained on, and a folder of classes. Does not know steps.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Manifest
from tuwen.classify.labels import label_vectors
from tuwen.data.datasets import SampleReader
from tuwen.data.formats import format_of_name
from tuwen.errors import InvalidInput
from tuwen.models.session import torch_session
from tuwen.models.towers import Towers
from tuwen.runtime.encoder import Encoder
from tuwen.training.config import EvaluateConfig
from tuwen.training.pairs import Listing
from tuwen.types import Rejected, Vectors

SPLITS = ("val", "test")
"""of a Karpathy file, what is measured on where nobody says"""
_ROWS = 1024
T = TypeVar("T")


class Evaluation:
    """What is measured of towers in training.

    Attributes:
        wanted: whether there is anything to measure.
        skipped: how many pictures could not be read, the last time.
    """

    def __init__(self, config: EvaluateConfig, precision: str, device: str) -> None:
        """List what is measured on.

        Raises:
            InvalidInput: there is nothing where the configuration says.
        """
        self._config, self._precision, self._device = config, precision, device
        self._pairs = Listing(config.pairs, SPLITS) if config.pairs else None
        if self._pairs is not None and not len(self._pairs):
            raise InvalidInput(f"evaluate.pairs: there is no pair in {', '.join(str(s.path) for s in config.pairs)}")
        self._classes = _classes(config.zeroshot) if config.zeroshot else {}
        self.wanted = self._pairs is not None or bool(self._classes)
        self.skipped = 0

    def measure(self, towers: Towers) -> dict[str, float]:
        """Recall at each k both ways, where there are pairs; accuracy among the k best, where there are classes."""
        self.skipped = 0
        with tempfile.TemporaryDirectory(prefix="tuwen-evaluate-") as folder:
            encoder = torch_encoder(towers, Path(folder), self._device, self._precision, weights=b"in training")
            return self._recall(encoder) | self._accuracy(encoder)

    def _recall(self, encoder: Encoder) -> dict[str, float]:
        if self._pairs is None:
            return {}
        images, texts, owners = list[NDArray[np.float32]](), list[str](), list[int]()
        for captions, vector in self._encoded(encoder, self._read(self._pairs)):
            owners += [len(images)] * len(captions)
            texts += captions
            images.append(vector)
        if not texts:
            raise InvalidInput("evaluate.pairs: none of the pictures can be read")
        return recall(np.stack(images), encoder.encode_texts(texts), np.array(owners), self._config.k)

    def _accuracy(self, encoder: Encoder) -> dict[str, float]:
        if not self._classes:
            return {}
        labels = list(self._classes)
        vectors = label_vectors([label.replace("_", " ") for label in labels], self._config.templates, encoder).vectors
        items = ((number, path) for number, label in enumerate(labels) for path in self._classes[label])
        images, right = list[NDArray[np.float32]](), list[int]()
        for number, vector in self._encoded(encoder, items):
            images.append(vector)
            right.append(number)
        if not images:
            raise InvalidInput(f"evaluate.zeroshot: none of the pictures in {self._config.zeroshot} can be read")
        return accuracy(np.stack(images), vectors, np.array(right), [k for k in self._config.k if k < len(labels)])

    def _read(self, pairs: Listing) -> Iterator[tuple[Sequence[str], bytes]]:
        """All captions of each picture, and its content."""
        reader = SampleReader()
        for number in range(len(pairs)):
            pair = pairs[number]
            sample = pair.read(reader)
            captions = {} if isinstance(sample, Rejected) else sample.by_language()
            if isinstance(sample, Rejected) or sample.image is None or not captions:
                self.skipped += 1
            else:
                yield [text for texts in captions.values() for text in texts], sample.image

    def _encoded(
        self, encoder: Encoder, items: Iterable[tuple[T, bytes | Path]]
    ) -> Iterator[tuple[T, NDArray[np.float32]]]:
        """What belongs to each picture that can be read, with the picture's vector."""
        for batch in encoder.stream(items, batch=self._config.batch):
            self.skipped += len(batch.rejected)
            yield from zip(batch.keys, batch.vectors, strict=True)


def torch_encoder(
    towers: Towers, folder: Path, device: str, precision: str, *, weights: bytes | None = None
) -> Encoder:
    """The encoder that serves, over the towers as they are in PyTorch.

    Args:
        towers: both towers.
        folder: takes the tokenizer's file.
        device: PyTorch's name of it.
        precision: what is computed in.
        weights: what the fingerprint stands for in place of the weights, where these change.
    """
    (folder / layout.TOKENIZER).write_bytes(towers.tokenizer)
    sessions = {tower: torch_session(towers, tower, device=device, precision=precision) for tower in layout.TOWERS}
    blank = np.zeros((1, 3, *towers.image_spec.size), np.float32)
    manifest = Manifest(
        name=towers.name,
        family=towers.family,
        source=towers.source,
        dim=sessions["vision"].run({"pixel_values": blank}).shape[1],
        weights_sha256=towers.weights_sha256() if weights is None else hashlib.sha256(weights).hexdigest(),
        tokenizer_sha256=hashlib.sha256(towers.tokenizer).hexdigest(),
        image=towers.image_spec,
        text=towers.text_spec,
        scoring=towers.scoring,
        files={},
    )
    bundle = Bundle(folder, manifest, {}, folder / layout.TOKENIZER)
    return Encoder(bundle, lambda tower: sessions[tower], precision=precision)


def recall(images: Vectors, texts: Vectors, owners: NDArray[np.int64], ks: Sequence[int]) -> dict[str, float]:
    """How often what belongs to a query is among the k most similar.

    Args:
        images: (n, dim) unit rows.
        texts: (m, dim) unit rows.
        owners: (m,) the picture that each text belongs to; a picture may have several.
        ks: each k.

    Returns:
        `image_to_text@k`: a picture counts when one of its texts is among the k best; `text_to_image@k`. What is
        as similar as the right one stands before it by half: towers that give all the same vector find nothing.
    """
    to_image, to_text = [], []
    for first in range(0, len(texts), _ROWS):
        rows = slice(first, first + _ROWS)
        cosines = texts[rows] @ images.T
        own = cosines[np.arange(len(cosines)), owners[rows]]
        to_image.append(_place(cosines, own, np.arange(len(images))[None, :] == owners[rows, None]))
    for first in range(0, len(images), _ROWS):
        cosines = images[first : first + _ROWS] @ texts.T
        belongs = owners[None, :] == np.arange(first, first + len(cosines))[:, None]
        own = np.where(belongs, cosines, -np.inf).max(axis=1)
        to_text.append(_place(cosines, own, belongs))
    places = {"image_to_text": np.concatenate(to_text), "text_to_image": np.concatenate(to_image)}
    return {f"{name}@{k}": float((place < k).mean()) for name, place in places.items() for k in ks}


def accuracy(images: Vectors, labels: Vectors, right: NDArray[np.int64], ks: Sequence[int]) -> dict[str, float]:
    """How often a picture's class is among the k most similar, `zeroshot@k`; equals count as in `recall`.

    Args:
        images: (n, dim) unit rows.
        labels: (m, dim) unit rows, one for each class.
        right: (n,) the class of each picture.
        ks: each k.
    """
    places = []
    for first in range(0, len(images), _ROWS):
        rows = slice(first, first + _ROWS)
        cosines = images[rows] @ labels.T
        own = cosines[np.arange(len(cosines)), right[rows]]  # of the same product: another rounds otherwise
        places.append(_place(cosines, own, np.arange(len(labels))[None, :] == right[rows, None]))
    place = np.concatenate(places)
    return {f"zeroshot@{k}": float((place < k).mean()) for k in ks}


def _place(cosines: Vectors, own: NDArray[np.float32], belongs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many of the others stand before the right one, row by row; its equals count half."""
    ahead = (cosines > own[:, None]).sum(axis=1)
    equal = ((cosines == own[:, None]) & ~belongs).sum(axis=1)
    places: NDArray[np.float64] = ahead + equal / 2
    return places


def score(figures: Mapping[str, float]) -> float:
    """What decides which checkpoint is the best: the mean of all recalls, or else of the accuracies."""
    recalls = [value for name, value in figures.items() if "_to_" in name]
    return float(np.mean(recalls or list(figures.values())))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The pictures in each folder of a folder, by its name.

    Raises:
        InvalidInput: there are none.
    """
    if not folder.is_dir():
        raise InvalidInput(f"evaluate.zeroshot: there is no folder {folder}")
    found = {
        inner.name: sorted(path for path in inner.rglob("*") if format_of_name(path.name))
        for inner in sorted(folder.iterdir())
        if inner.is_dir()
    }
    classes = {name: paths for name, paths in found.items() if paths}
    if len(classes) < 2:
        raise InvalidInput(f"evaluate.zeroshot: {folder} must have a folder of pictures for each class, two at least")
    return classes
