"""The encoder: images and texts of one model to unit vectors."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from PIL import Image

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import REDUCED_DECODING, ImageSpec, Manifest, Scoring, TextSpec
from tuwen.data.decode import Reading, read_image, reading_for
from tuwen.data.files import find_files, key_of
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import BundleInvalid, InvalidInput, RejectedImages
from tuwen.runtime.machine import usable_cores
from tuwen.runtime.pipeline import BATCH, AnyImage, Batch, ImageSource, Keyed, encode_images, keyed
from tuwen.runtime.tower import LazyTower, OpenSession
from tuwen.types import Payload, Pixels, Rejected, Source, Tokens, Vectors

K = TypeVar("K")

MAX_PIXELS = 2**28
"""images of more pixels are rejected, unless a setting says otherwise"""
REDUCED_COSINE = 0.99999
"""a model for which decoding at reduced scale gives a lower cosine decodes at full scale"""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image that is ready to be encoded.

    Attributes:
        pixels: (1, 3, height, width) float32, as the image tower reads it.
        facts: width, height and format of the image in its file.
        metadata: when and where it was taken, and with what, see `data.metadata`.
    """

    pixels: Pixels
    facts: Payload
    metadata: Payload


def bears_reduced_decoding(manifest: Manifest) -> bool:
    """Whether JPEGs may be decoded at reduced scale: not if export found that it changes the vectors."""
    return float(manifest.facts.get(REDUCED_DECODING, 1)) >= REDUCED_COSINE


class Encoder:
    """A model that turns images and texts into unit vectors. Thread-safe.

    >>> import tuwen
    >>> from tuwen.demo import demo_gallery
    >>> encoder = tuwen.load("demo")
    >>> images = encoder.encode_images([demo_gallery() / "animals-and-nature" / "dog-face.webp"])
    >>> texts = encoder.encode_texts(["a dog", "a bicycle"])
    >>> images.shape == (1, encoder.dim), texts.shape == (2, encoder.dim)
    (True, True)
    >>> dog, bicycle = (images @ texts.T)[0]
    >>> bool(dog > bicycle)
    True

    Any number of images, in bounded memory:

    >>> for batch in encoder.stream(demo_gallery() / "activities", batch=8):
    ...     assert batch.vectors.shape == (len(batch.keys), encoder.dim) and not batch.rejected

    Attributes:
        name: the model's name.
        names: every name that loads it: `name`, its folder's; all names of a packaged model.
        dim: the number of dimensions of its vectors.
        fingerprint: 16 hex digits; encoders with the same fingerprint compute comparable vectors.
        precision: what the image tower computes in, e.g. `fp32`, `bf16`, `int8`.
        image_spec: how an image becomes pixels.
        text_spec: how a text becomes tokens.
        reading: how images are decoded.
        threads: threads that read and decode images ahead of the image tower.
    """

    def __init__(  # noqa: PLR0913  (what a model is, and how it is loaded)
        self,
        bundle: Bundle,
        open_session: OpenSession,
        *,
        open_single: OpenSession | None = None,
        precision: str,
        max_pixels: int = MAX_PIXELS,
        exact_decode: bool = False,
        threads: int | None = None,
        names: Iterable[str] = (),
        cache: Path | None = None,
    ) -> None:
        """Create an encoder; each tower is loaded when it is first used.

        Args:
            bundle: the model.
            open_session: loads a tower; called at most once for each.
            open_single: loads what computes a single image or text; None: the same.
            precision: what the image tower computes in.
            max_pixels: images of more pixels are rejected.
            exact_decode: whether JPEGs are decoded at full scale.
            threads: threads that decode; None: one for each core that this process may use.
            names: further names of the model.
            cache: where a large tokenizer is kept in a form that is quick to open; None: nowhere.
        """
        manifest = bundle.manifest
        self.name = manifest.name
        self.names = frozenset({manifest.name, *names})
        self.dim = manifest.dim
        self.fingerprint = manifest.fingerprint()
        self.precision = precision
        self.image_spec: ImageSpec = manifest.image
        self.text_spec: TextSpec = manifest.text
        self._bundle = bundle
        self._cache = cache
        self._vision = LazyTower(bundle, "vision", open_session)
        self._text = LazyTower(bundle, "text", open_session)
        self._one_image = self._vision if open_single is None else LazyTower(bundle, "vision", open_single)
        self._one_text = self._text if open_single is None else LazyTower(bundle, "text", open_single)
        self.reading: Reading = reading_for(
            manifest.image, exact=exact_decode, max_pixels=max_pixels, reduced=bears_reduced_decoding(manifest)
        )
        self.threads = threads or usable_cores()

    @property
    def runtime(self) -> str:
        """What runs the image tower: `onnxruntime`, `openvino`, `torch`. Loads the tower."""
        return self._vision.runtime

    @property
    def source(self) -> str:
        """The checkpoint that its bundle was made from."""
        return self._bundle.manifest.source

    @property
    def scoring(self) -> Scoring:
        """How cosines become probabilities.

        Raises:
            BundleInvalid: the bundle does not say; some layouts of other tools leave it out.
        """
        scoring = self._bundle.manifest.scoring
        if scoring is None:
            raise _no_scoring(self._bundle.folder, self.name)
        return scoring

    @overload
    def stream(self, images: Iterable[tuple[K, AnyImage]], *, batch: int = BATCH) -> Generator[Batch[K]]: ...
    @overload
    def stream(self, images: Path | str | Iterable[ImageSource], *, batch: int = BATCH) -> Generator[Batch[str]]: ...
    def stream(
        self, images: Path | str | Iterable[ImageSource] | Iterable[tuple[K, AnyImage]], *, batch: int = BATCH
    ) -> Generator[Batch[Any]]:
        """Encode any number of images in bounded memory: decoded in threads while the batch before is encoded.

        Args:
            images: paths, contents of files, Pillow images, or samples of a dataset; `(key, image)` pairs keep the
                caller's own keys. A single path stands for that file, or for all images below that folder, whose
                keys are then relative to it.
            batch: images in a batch.

        Yields:
            Batches in the order of the images, with their keys, their vectors, and the images that were rejected.

        Raises:
            InvalidInput: a single image that is no path, a path that does not exist, or a batch below 1.
        """
        if batch < 1:
            raise InvalidInput(f"batch is {batch}: it must be at least 1", value=batch, where="batch")
        return self._batches(keyed_images(images), self.encode_pixels, batch)

    def encode_images(self, images: Sequence[AnyImage]) -> Vectors:
        """Encode images.

        Args:
            images: paths, contents of files, or Pillow images.

        Returns:
            (n, dim) float32, every row of length 1.

        Raises:
            RejectedImages: some cannot be read; all of these are named, and nothing is returned.
        """
        if isinstance(images, str | Path):
            raise _one_image(images)
        vectors, rejected = [np.empty((0, self.dim), dtype=np.float32)], list[Rejected]()

        def encode(pixels: Pixels) -> Vectors:
            return vectors[0] if rejected else self.encode_pixels(pixels)  # nothing is returned any more

        for batch in self._batches(keyed_images(images), encode, BATCH):
            vectors.append(batch.vectors)
            rejected += batch.rejected
        if rejected:
            raise RejectedImages(rejected)
        return np.concatenate(vectors)

    def decode(self, image: AnyImage, name: str) -> Decoded | Rejected:
        """Decode and preprocess an image; or tell why it cannot be read. Nothing is raised.

        Args:
            image: a path, a file's content, or a Pillow image.
            name: what to call it if it is rejected.
        """
        picture = read_image(Path(image) if isinstance(image, str) else image, name, self.reading)
        if isinstance(picture, Rejected):
            return picture
        facts: Payload = {"width": picture.width, "height": picture.height, "format": picture.format}
        return Decoded(to_pixels(self.image_spec, [picture.image]), facts, picture.metadata)

    def _batches(
        self, items: Iterable[Keyed[K] | Rejected], encode: Callable[[Pixels], Vectors], batch: int
    ) -> Generator[Batch[K]]:
        def encode_all(pixels: list[Pixels]) -> Vectors:
            return encode(np.concatenate(pixels)) if pixels else np.empty((0, self.dim), dtype=np.float32)

        def decode(image: AnyImage, name: str) -> Pixels | Rejected:
            decoded = self.decode(image, name)
            return decoded if isinstance(decoded, Rejected) else decoded.pixels

        return encode_images(items, decode, encode_all, threads=self.threads, batch=batch)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts. Texts longer than the model's context length are truncated; `to_tokens` counts them.

        Returns:
            (n, dim) float32, every row of length 1.
        """
        return self.encode_tokens(self.to_tokens(texts))

    def to_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokenize texts as the text tower reads them.

        Raises:
            InvalidInput: a single text in place of a list.
        """
        if isinstance(texts, str):
            message = f"a single text was given where a list is expected: write [{texts!r}]"
            raise InvalidInput(message, value=texts)
        return self._tokenizer.to_tokens(texts)

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Encode images that have been decoded already, see `decode`.

        Args:
            pixels: (n, 3, height, width) as `image_spec` says.

        Returns:
            (n, dim) float32, every row of length 1.

        Raises:
            InvalidInput: the pixels have another shape.
            InvalidVectors: the tower computed numbers that are not finite.
        """
        wanted = (3, *self.image_spec.size)
        if pixels.shape[1:] != wanted:
            height, width = self.image_spec.size
            message = f"pixels have the shape {pixels.shape}, but {self.name} expects (n, 3, {height}, {width})"
            raise InvalidInput(message, value=pixels.shape, where="pixels")
        return (self._one_image if len(pixels) == 1 else self._vision).encode_pixels(pixels)

    def encode_tokens(self, tokens: Tokens) -> Vectors:
        """Encode tokens.

        Returns:
            (n, dim) float32, every row of length 1.

        Raises:
            InvalidVectors: the tower computed numbers that are not finite.
        """
        return (self._one_text if len(tokens.ids) == 1 else self._text).encode_tokens(tokens)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self._bundle.tokenizer, self.text_spec, self._cache)


def keyed_images(images: Path | str | Iterable[Any]) -> Iterator[Keyed[Any] | Rejected]:
    """Whatever `Encoder.stream` takes, each image with its key."""
    if isinstance(images, bytes | Image.Image):
        raise _one_image(images)
    if not isinstance(images, str | Path):
        return keyed(images)
    path = Path(images)
    if path.is_dir():
        return keyed(find_files([path], path))
    return keyed([Source(key_of(path, path.parent), path, 0, 0.0)])


def _one_image(image: AnyImage) -> InvalidInput:
    return InvalidInput("a single image was given where a list is expected: put it into a list", value=image)


def _no_scoring(folder: Path, name: str) -> BundleInvalid:
    """The error for a bundle without scoring: what is missing, in which file, and how to add it."""
    if (folder / layout.MANIFEST).is_file():
        file, field = folder / layout.MANIFEST, "scoring"
        hint = (
            f"make the bundle from its checkpoint with tuwen pull {name} --export; or add the checkpoint's own scale, "
            'as {"kind": "softmax", "scale": …}, for SigLIP {"kind": "sigmoid", "scale": …, "bias": …}'
        )
    else:
        file, field = folder / "config.json", "logit_scale"
        hint = "add the checkpoint's own, the logarithm that it stores (and logit_bias for SigLIP)"
    message = f"{file} has no {field}, which turns cosines into probabilities: {hint}"
    return BundleInvalid(message, value=field, where=file, hint=hint)
