"""Evaluation during training, with the encoder of inference: recall on held-out pairs, zero-shot accuracy."""

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
from tuwen.evaluation.metrics import Classification, Retrieval, classification, retrieval
from tuwen.models.session import torch_session
from tuwen.models.towers import Towers
from tuwen.runtime.encoder import Encoder
from tuwen.training.config import EvaluateConfig
from tuwen.training.pairs import Listing
from tuwen.types import Rejected

SPLITS = ("val", "test")
"""the default splits for evaluation, if a dataset has splits"""
T = TypeVar("T")


class Evaluation:
    """Evaluates towers in training.

    Attributes:
        wanted: whether there is anything to evaluate.
        skipped: number of images that could not be read in the last evaluation.
    """

    def __init__(self, config: EvaluateConfig, precision: str, device: str) -> None:
        """List the pairs and the classes to evaluate on.

        Raises:
            InvalidInput: the configuration names something that has no pairs or no classes.
        """
        self._config, self._precision, self._device = config, precision, device
        self._pairs = Listing(config.pairs, SPLITS) if config.pairs else None
        if self._pairs is not None and not len(self._pairs):
            named = ", ".join(str(source.path) for source in config.pairs)
            raise InvalidInput(f"evaluate.pairs: {named} has no pairs", value=named, where="evaluate.pairs")
        self._classes = _classes(config.zeroshot) if config.zeroshot else {}
        self.wanted = self._pairs is not None or bool(self._classes)
        self.skipped = 0

    def measure(self, towers: Towers) -> dict[str, float]:
        """The metrics by name: recalls if there are pairs to evaluate on, accuracies if there are classes."""
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
            raise InvalidInput("evaluate.pairs: none of the images can be read", where="evaluate.pairs")
        return recalls(retrieval(np.stack(images), encoder.encode_texts(texts), np.array(owners), ks=self._config.k))

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
            folder = self._config.zeroshot
            raise InvalidInput(f"evaluate.zeroshot: no image in {folder} can be read", value=folder)
        ks = [k for k in self._config.k if k < len(labels)]
        return accuracies(classification(np.stack(images), vectors, np.array(right), ks=ks))

    def _read(self, pairs: Listing) -> Iterator[tuple[Sequence[str], bytes]]:
        """The captions of each image, and its content."""
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
        """Encode images; yields the item of each readable image with the image's vector."""
        for batch in encoder.stream(items, batch=self._config.batch):
            self.skipped += len(batch.rejected)
            yield from zip(batch.keys, batch.vectors, strict=True)


def torch_encoder(
    towers: Towers, folder: Path, device: str, precision: str, *, weights: bytes | None = None
) -> Encoder:
    """Build an encoder that runs the towers in PyTorch.

    Args:
        towers: both towers.
        folder: the folder for the tokenizer's file.
        device: the device, as PyTorch names it.
        precision: the precision to compute in.
        weights: a value for the fingerprint in place of the weights, which change during training.
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


def recalls(result: Retrieval) -> dict[str, float]:
    """`image_retrieval_recall@k` and `text_retrieval_recall@k` alone."""
    return {name: value for name, value in result.metrics().items() if "_recall@" in name}


def accuracies(result: Classification) -> dict[str, float]:
    """`acc1`, `acc5` and so on alone: how often an image's class is among the k most similar."""
    return {name: value for name, value in result.metrics().items() if name.startswith("acc")}


def score(figures: Mapping[str, float]) -> float:
    """The figure by which the best checkpoint is chosen: the mean of all recalls, or else of the accuracies."""
    found = [value for name, value in figures.items() if "_recall@" in name]
    return float(np.mean(found or list(figures.values())))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The images in each folder of a folder, by the folder's name.

    Raises:
        InvalidInput: there are fewer than two classes.
    """
    if not folder.is_dir():
        raise InvalidInput(f"evaluate.zeroshot: {folder} is not a folder", value=folder, where="evaluate.zeroshot")
    found = {
        inner.name: sorted(path for path in inner.rglob("*") if format_of_name(path.name))
        for inner in sorted(folder.iterdir())
        if inner.is_dir()
    }
    classes = {name: paths for name, paths in found.items() if paths}
    if len(classes) < 2:
        hint = "put the images of each class into a folder of its name; at least two classes are needed"
        raise InvalidInput(f"evaluate.zeroshot: {folder} has no classes: {hint}", value=folder, hint=hint)
    return classes
