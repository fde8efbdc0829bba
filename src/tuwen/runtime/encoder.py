"""Pictures and texts to unit vectors: the one place that makes batches, and the one that normalises.

Knows a bundle and two sessions, one per tower, opened when first needed. Does not know how a session computes, nor
what vectors are for.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle import layout
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.errors import BundleInvalid, InvalidInput, InvalidVectors, RejectedImages
from tuwen.prepare.images import Picture, reading_for
from tuwen.prepare.pixels import to_pixels
from tuwen.prepare.texts import Tokenizer
from tuwen.runtime.batches import IMAGES, image_batches, text_batches
from tuwen.runtime.decoding import AnyImage, decode
from tuwen.runtime.tower import LazyTower, OpenSession, is_mask
from tuwen.types import Pixels, Port, Rejected, Tokens, Vectors

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
    """

    def __init__(
        self,
        bundle: Bundle,
        open_session: OpenSession,
        *,
        precision: str,
        max_pixels: int = MAX_PIXELS,
        exact_decode: bool = False,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            bundle: the model.
            open_session: loads a tower; called at most once for each, when it is first used.
            precision: what the image tower will compute in.
            max_pixels: `encode_images` rejects a picture of more.
            exact_decode: whether `encode_images` decodes JPEGs at full scale.
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
        self._reading = reading_for(manifest.image, exact=exact_decode, max_pixels=max_pixels)

    @property
    def scoring(self) -> Scoring:
        """How cosines become probabilities.

        Raises:
            BundleInvalid: the bundle does not say: some layouts of others leave it out.
        """
        if self._bundle.manifest.scoring is None:
            raise BundleInvalid(_no_scale(self._bundle.folder, self.name))
        return self._bundle.manifest.scoring

    def encode_images(self, images: Sequence[AnyImage]) -> Vectors:
        """Encode pictures.

        Args:
            images: paths, contents of files, or images of Pillow.

        Returns:
            (n, dim) float32, every row of length 1.

        Raises:
            RejectedImages: some cannot be read; all of these are named, and nothing is returned.
        """
        vectors, rejected = [np.empty((0, self.dim), dtype=np.float32)], list[Rejected]()
        for batch in decode(images, self._reading, IMAGES):
            rejected += [item for item in batch if isinstance(item, Rejected)]
            pictures = [item.image for item in batch if isinstance(item, Picture)]
            if not rejected:  # else only the remaining bad ones are still of interest
                vectors.append(self.encode_pixels(to_pixels(self.image_spec, pictures)))
        if rejected:
            raise RejectedImages(rejected)
        return np.concatenate(vectors)

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
