"""Pictures and texts to unit vectors: the one place that makes batches, and the one that normalises.

Knows a bundle and two sessions, one per tower, opened when first needed. Does not know how a session computes, nor
what vectors are for.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec, Tower
from tuwen.data.decode import Reading, read_image, reading_for
from tuwen.data.files import find_files, key_of
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import BundleInvalid, InvalidInput, InvalidVectors, RejectedImages
from tuwen.runtime.machine import usable_cores
from tuwen.runtime.pipeline import BATCH, AnyImage, Batch, ImageSource, Keyed, encode_images, keyed
from tuwen.runtime.session import Session
from tuwen.types import Pixels, Port, Rejected, Source, Tokens, Vectors

K = TypeVar("K")

# ---- How rows are put into batches, so that a row's vector never depends on the rows beside it.

TEXTS = 64
STEP = 4
"""texts are padded to a multiple of this many tokens: fewer widths, so that more texts share a run"""


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts of one width.

    Attributes:
        rows: which of the texts.
        ids: (batch, width) int64.
        mask: (batch, width) int64, 1 where a token is real.
    """

    rows: NDArray[np.intp]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def image_batches(count: int, fixed: int | None) -> Iterator[slice]:
    """Rows 0..count in turns. `fixed`: the batch that the graph insists on; the last turn may be shorter."""
    size = fixed or BATCH
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def text_batches(tokens: Tokens, spec: TextSpec, fixed: tuple[int | None, int | None]) -> Iterator[TextBatch]:
    """Texts of like length together, each cut as soon as that changes nothing.

    Args:
        tokens: the texts.
        spec: whether they may be cut after their last token, and what pads them.
        fixed: batch and width that the graph insists on, each None where it does not.
    """
    batch, width = fixed
    widths = _widths(tokens.lengths, spec, width)
    for wide in np.unique(widths):
        rows = np.flatnonzero(widths == wide)
        for start in range(0, len(rows), batch or TEXTS):
            yield _text_batch(tokens, rows[start : start + (batch or TEXTS)], int(wide), spec.pad_id)


def filled(rows: NDArray[np.generic], batch: int | None) -> NDArray[np.generic]:
    """`rows` brought to the batch that a graph insists on, by repeating the last; as they are where it does not."""
    missing = 0 if batch is None else batch - len(rows)
    return rows if missing == 0 else np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])


def _widths(lengths: NDArray[np.int64], spec: TextSpec, fixed: int | None) -> NDArray[np.int64]:
    if fixed is not None or not spec.cut_exact:
        return np.full(len(lengths), fixed or spec.context_length, dtype=np.int64)
    return np.minimum(-(-lengths // STEP) * STEP, spec.context_length)


def _text_batch(tokens: Tokens, rows: NDArray[np.intp], width: int, pad_id: int) -> TextBatch:
    mask = (np.arange(width) < tokens.lengths[rows, None]).astype(np.int64)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    known = min(width, tokens.ids.shape[1])
    ids[:, :known] = tokens.ids[rows, :known]
    return TextBatch(rows, np.where(mask == 1, ids, pad_id), mask)


# ---- One tower of a bundle, opened when it is first used.

OpenSession = Callable[[Tower], Session]
"""Loads a tower; called at most once for each."""


class LazyTower:
    """A tower and its session. Safe in several threads."""

    def __init__(self, bundle: Bundle, tower: Tower, open_session: OpenSession) -> None:
        self._bundle = bundle
        self._tower = tower
        self._open_session = open_session
        self._opened: Session | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What to call it in an error."""
        session = self._session()
        return f"the {self._tower} tower of {self._bundle.manifest.name} on {session.runtime} {session.device}"

    def pixel_port(self) -> Port:
        """The input that carries the pictures.

        Raises:
            BundleInvalid: there is not one of four axes, alone.
        """
        return self._only(self._session().inputs, 4)

    def text_ports(self) -> tuple[Port, tuple[Port, ...]]:
        """The input that carries the tokens, and those that say more of them: masks and token types.

        Raises:
            BundleInvalid: there are others.
        """
        ports = self._session().inputs
        beside = tuple(port for port in ports if is_mask(port) or "token_type" in port.name)
        return self._only([port for port in ports if port not in beside], 2), beside

    def run(self, feeds: Mapping[Port, NDArray[Any]]) -> NDArray[np.float32]:
        """Compute (n, dim) float32, as the graph gives them, for n rows of each input.

        Raises:
            BundleInvalid: it gives another number of numbers than the manifest says.
        """
        rows = len(next(iter(feeds.values())))
        ready = {
            port.name: np.ascontiguousarray(filled(value, port.shape[0]), dtype=port.dtype)
            for port, value in feeds.items()
        }
        output = self._session().run(ready)[:rows]
        if output.shape != (rows, self._bundle.manifest.dim):
            raise BundleInvalid(
                f"the {self._tower} tower of {self._bundle.folder} gives {output.shape[1:]} numbers a row, "
                f"not the {self._bundle.manifest.dim} that its manifest says"
            )
        return output

    def _session(self) -> Session:
        with self._lock:
            if self._opened is None:
                self._opened = self._open_session(self._tower)
            return self._opened

    def _only(self, ports: Sequence[Port], axes: int) -> Port:
        if len(ports) == 1 and len(ports[0].shape) == axes:
            return ports[0]
        found = ", ".join(f"{port.name}{list(port.shape)}" for port in ports)
        raise BundleInvalid(
            f"the {self._tower} tower of {self._bundle.folder} wants inputs that tuwen does not know: {found}"
        )


def is_mask(port: Port) -> bool:
    """Whether an input says which tokens are real."""
    return "mask" in port.name


# ---- Pictures and texts to unit vectors: the one place that makes batches, and the one that normalises.

MAX_PIXELS = 178_956_970
"""a picture of more is rejected, unless a setting says otherwise"""


class Encoder:
    """A model, ready to encode. Safe in several threads.

    Attributes:
        name: what people call the model.
        dim: the length of a vector.
        fingerprint: 16 hex digits; two encoders of the same one make the same vectors.
        precision: what the image tower computes in, e.g. `fp32`, `bf16`, `int8`.
        image_spec: how a picture becomes pixels.
        text_spec: how a text becomes tokens.
        reading: how images are decoded.
        threads: threads that read and decode images ahead of the image tower.
    """

    def __init__(
        self,
        bundle: Bundle,
        open_session: OpenSession,
        *,
        precision: str,
        max_pixels: int = MAX_PIXELS,
        exact_decode: bool = False,
        threads: int | None = None,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            bundle: the model.
            open_session: loads a tower; called at most once for each, when it is first used.
            precision: what the image tower will compute in.
            max_pixels: images of more pixels are rejected.
            exact_decode: whether JPEGs are decoded at full scale.
            threads: threads that decode; None: one for each core that this process may use.
        """
        manifest = bundle.manifest
        self.name = manifest.name
        self.dim = manifest.dim
        self.fingerprint = manifest.fingerprint()
        self.precision = precision
        self.image_spec: ImageSpec = manifest.image
        self.text_spec: TextSpec = manifest.text
        self._bundle = bundle
        self._vision = LazyTower(bundle, "vision", open_session)
        self._text = LazyTower(bundle, "text", open_session)
        self.reading: Reading = reading_for(manifest.image, exact=exact_decode, max_pixels=max_pixels)
        self.threads = threads or usable_cores()

    @property
    def scoring(self) -> Scoring:
        """How cosines become probabilities.

        Raises:
            BundleInvalid: the bundle does not say: some layouts of others leave it out.
        """
        if self._bundle.manifest.scoring is None:
            raise BundleInvalid(_no_scale(self._bundle.folder, self.name))
        return self._bundle.manifest.scoring

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
        return self._batches(_keyed(images), self.encode_pixels, batch)

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
            return vectors[0] if rejected else self.encode_pixels(pixels)  # once one is rejected, all is in vain

        for batch in self._batches(_keyed(images), encode, BATCH):
            vectors.append(batch.vectors)
            rejected += batch.rejected
        if rejected:
            raise RejectedImages(rejected)
        return np.concatenate(vectors)

    def decode(self, image: AnyImage, name: str) -> Pixels | Rejected:
        """An image as the image tower reads it, (1, 3, height, width); or why it cannot be read.

        Args:
            image: a path, a file's content, or a Pillow image.
            name: what to call it if it is rejected.
        """
        picture = read_image(Path(image) if isinstance(image, str) else image, name, self.reading)
        return picture if isinstance(picture, Rejected) else to_pixels(self.image_spec, [picture.image])

    def _batches(
        self, items: Iterable[Keyed[K] | Rejected], encode: Callable[[Pixels], Vectors], batch: int
    ) -> Generator[Batch[K]]:
        def encode_all(pixels: list[Pixels]) -> Vectors:
            return encode(np.concatenate(pixels)) if pixels else np.empty((0, self.dim), dtype=np.float32)

        return encode_images(items, self.decode, encode_all, threads=self.threads, batch=batch)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts; what does not fit the model's context length is cut off.

        Returns:
            (n, dim) float32, every row of length 1.
        """
        return self.encode_tokens(self.to_tokens(texts))

    def to_tokens(self, texts: Sequence[str]) -> Tokens:
        """Texts as the text tower reads them; says how many were cut to fit."""
        if isinstance(texts, str):
            raise InvalidInput(f"one text was given where several are wanted: write [{texts!r}]")
        return self._tokenizer.to_tokens(texts)

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Encode prepared pictures.

        Args:
            pixels: (n, 3, height, width) as `image_spec` says.

        Returns:
            (n, dim) float32, every row of length 1.

        Raises:
            InvalidInput: of another shape.
            InvalidVectors: the tower gave numbers that are not finite.
        """
        height, width = self.image_spec.size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, height, width):
            raise InvalidInput(f"pixels are of shape {pixels.shape}; {self.name} wants (n, 3, {height}, {width})")
        vectors = np.empty((len(pixels), self.dim), dtype=np.float32)
        if len(pixels):
            port = self._vision.pixel_port()
            for rows in image_batches(len(pixels), port.shape[0]):
                vectors[rows] = _unit(self._vision, {port: pixels[rows]})
        return vectors

    def encode_tokens(self, tokens: Tokens) -> Vectors:
        """Encode tokens.

        Returns:
            (n, dim) float32, every row of length 1.

        Raises:
            InvalidVectors: the tower gave numbers that are not finite.
        """
        vectors = np.empty((len(tokens.ids), self.dim), dtype=np.float32)
        if len(tokens.ids):
            port, beside = self._text.text_ports()
            for batch in text_batches(tokens, self.text_spec, (port.shape[0], port.shape[1])):
                zeros = np.zeros_like(batch.mask)
                feeds = {port: batch.ids} | {more: batch.mask if is_mask(more) else zeros for more in beside}
                vectors[batch.rows] = _unit(self._text, feeds)
        return vectors

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self._bundle.tokenizer, self.text_spec)


def _keyed(images: Path | str | Iterable[Any]) -> Iterator[Keyed[Any] | Rejected]:
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


def _no_scale(folder: Path, name: str) -> str:
    """What is missing, and where: a bundle of our own compares the files beside its manifest with their digests."""
    if not (folder / layout.MANIFEST).is_file():
        return (
            f"{folder / 'config.json'} has no logit_scale, without which cosines do not become probabilities: "
            "add the checkpoint's own, the logarithm that it stores (and logit_bias for SigLIP)"
        )
    return (
        f"{folder / layout.MANIFEST} has no scoring, without which cosines do not become probabilities: "
        f"tuwen pull {name} --export makes the bundle from the checkpoint, which has it; or write the checkpoint's "
        'own there, as {"kind": "softmax", "scale": …}, for SigLIP {"kind": "sigmoid", "scale": …, "bias": …}'
    )


def _unit(tower: LazyTower, feeds: Mapping[Port, NDArray[Any]]) -> Vectors:
    """Run a tower; its rows brought to length 1.

    Raises:
        InvalidVectors: a row is not finite, or zero: it has no direction.
    """
    output = tower.run(feeds)
    lengths = np.linalg.norm(output.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(bad):
        raise InvalidVectors(
            f"{tower.name} gave no usable vector for {len(bad)} of {len(output)} inputs (first: {bad[0]}): numbers "
            "that are not finite, or all zero; if the input is sound, ask for --precision fp32 or another --runtime"
        )
    unit: Vectors = (output / lengths).astype(np.float32)
    return unit
