"""Canonical outputs: what the reference library computes for a few built-in images and texts, kept in the bundle.

With them `verify` needs no checkpoint: a bundle whose files were damaged after export, hashes included, no longer
gives these pixels, tokens and vectors. They are a few vectors long (6 kB at 128 numbers a vector, 24 kB at 512).
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from tuwen.bundle.bundle import Bundle, first_fault
from tuwen.bundle.manifest import Facts, ImageSpec, Precision, Scoring
from tuwen.errors import BundleInvalid
from tuwen.types import Pixels, Vectors

CANONICAL = "canonical.json"

TEXTS = (
    "a photo of a cat",
    "Fish &amp; chips: “curly quotes”, café & cafÃ©!",
    "两个孩子在海边玩耍，天空很蓝。",
    "собака бежит по траве",
    "",
    "a very long caption " * 60,
)

SAMPLED = 256
"""How many values of each prepared image are kept. Another crop, filter, mean or std changes nearly all of them."""

DROP = {"fp16": 2e-4, "int8": 3e-3}
"""How far the worst cosine may fall below the one recorded at export. Runtimes and CPUs differ by less: they round
int8 products in their own order."""


class Figures(Facts):
    """The worst cosine of each tower's vectors at one precision, as recorded at export on ONNX Runtime."""

    image: float
    text: float


class Canonical(Facts):
    """The content of `canonical.json`."""

    format: int = 1
    computed_by: str
    """the reference: the checkpoint in PyTorch, or the bundle's own files where that was not available."""
    precision: str = "fp32"
    """what it was computed in."""
    images: tuple[tuple[int, int], ...]
    """(width, height) of each image; see `draw`."""
    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    """each text's ids, without padding."""
    pixels: str
    """(images, SAMPLED) float32 in base64: values of each prepared image at fixed places."""
    image_vectors: str
    """(images, dim) float32 in base64."""
    text_vectors: str
    """(texts, dim) float32 in base64."""
    scoring: Scoring
    figures: Mapping[Precision, Figures] = Field(default_factory=dict)
    """recorded at export: later figures may not fall far below them."""


def sizes(spec: ImageSpec) -> tuple[tuple[int, int], ...]:
    """The (width, height) of images that every part of an image spec shows in.

    The first is as high as the model's input and wider by a margin of 3 (or 7, ...): the two ways to round a centre
    crop differ there, and nothing is resized on the way. The others are resized: landscape, portrait.
    """
    height, width = spec.size
    edge = spec.edge or max(height, width)
    wide = edge + (3 - (edge - width)) % 4
    return (wide, edge), (2 * width + 37, height + 29), (width + 11, 3 * height // 2 + 5)


def draw(size: tuple[int, int], seed: int) -> Image.Image:
    """Blocks of colour with fine noise, by integer arithmetic alone: the same with every version of Pillow."""
    width, height = size
    rng = np.random.Generator(np.random.PCG64(seed))
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.int64)
    blocks = np.kron(coarse, np.ones((16, 16, 1), dtype=np.int64))[:height, :width]
    noise = rng.integers(-24, 25, (height, width, 3), dtype=np.int64)
    return Image.fromarray((blocks + noise).clip(0, 255).astype(np.uint8))


def drawn(found: Sequence[tuple[int, int]]) -> list[Image.Image]:
    """The images of these sizes."""
    return [draw(size, seed) for seed, size in enumerate(found)]


def sampled(pixels: Pixels) -> NDArray[np.float32]:
    """(n, SAMPLED) values of prepared images, at places that depend on their size alone."""
    flat = pixels.reshape(len(pixels), -1)
    places = np.linspace(0, flat.shape[1] - 1, SAMPLED).astype(np.int64)
    return np.ascontiguousarray(flat[:, places])


def packed(values: NDArray[np.float32]) -> str:
    """An array's bytes, little-endian, in base64."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def unpacked(text: str, rows: int, where: Path) -> Vectors:
    """The array (rows, …) of such a text.

    Raises:
        BundleInvalid: it is not one.
    """
    try:
        flat = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
        return flat.reshape(rows, -1)
    except ValueError as error:
        raise BundleInvalid(f"{where} holds an array that cannot be read: {error}", where=where) from error


def write_canonical(folder: Path, canonical: Canonical) -> None:
    """Write them into a bundle."""
    (folder / CANONICAL).write_text(canonical.model_dump_json(indent=1) + "\n", encoding="utf-8")


def with_figures(canonical: Canonical, figures: Mapping[Precision, Figures]) -> Canonical:
    """With the figures of these precisions recorded."""
    return canonical.model_copy(update={"figures": dict(figures)})


def read_canonical(bundle: Bundle) -> Canonical | None:
    """A bundle's canonical outputs; None where it has none (it was exported by an older version, or pulled).

    Raises:
        BundleInvalid: the file cannot be read.
    """
    if CANONICAL not in bundle.manifest.files:
        return None
    path = bundle.folder / CANONICAL
    try:
        return Canonical.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleInvalid(f"{path}: {first_fault(error)}; export the model again", where=path) from error
