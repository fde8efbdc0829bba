"""Canonical outputs: what the reference library computes for a few built-in images and texts, kept in the bundle.

With them `verify` needs no checkpoint: a bundle whose files were damaged after export, hashes included, no longer
gives these pixels, tokens and vectors. They are a few vectors long (6 kB at 128 numbers a vector, 24 kB at 512).
"""

import base64
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from tuwen.bundle.bundle import Bundle, first_fault
from tuwen.bundle.companions import check_graphs, names_pad_token
from tuwen.bundle.manifest import FOREIGN, Check, Facts, ImageSpec, Precision, Report, Scoring
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import BundleInvalid
from tuwen.exporting.checks import check_pixels, check_scoring, check_tokens
from tuwen.exporting.compare import Reference, check_outputs, report
from tuwen.exporting.runs import Device, Run, run_on, runs
from tuwen.exporting.samples import Samples
from tuwen.types import Pixels, Tokens, Vectors

log = logging.getLogger(__name__)

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
"""the number of values kept of each preprocessed image; another crop, filter, mean or std changes nearly all of them"""

DROP = {"fp16": 2e-4, "int8": 5e-3}
"""How far the worst cosine may fall below the one recorded at export. Runtimes and CPUs differ by less, since they only
round and add in another order: at int8 by up to 0.0034, the packaged model of pictograms on OpenVINO with VNNI."""


class Figures(Facts):
    """The worst cosine of each tower's vectors at one precision, as recorded at export on ONNX Runtime."""

    image: float
    text: float


class Canonical(Facts):
    """The content of `canonical.json`."""

    format: int = 1
    computed_by: str
    """the reference: the checkpoint in PyTorch, or the bundle's own files if it was exported without a checkpoint."""
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
    """recorded at export; later figures may not fall more than `DROP` below them."""


def sizes(spec: ImageSpec) -> tuple[tuple[int, int], ...]:
    """The (width, height) of images that every part of an image spec shows in.

    The first is as high as the model's input and wider by a margin of 3 (or 7, ...): the two ways to round a centre
    crop differ there, and nothing is resized on the way. The others are resized: landscape, and portrait where the
    two ways to round the longer side differ.
    """
    height, width = spec.size
    edge = spec.edge or max(height, width)
    wide = edge + (3 - (edge - width)) % 4
    narrow = width + 11
    tall = next(tall for tall in count(3 * height // 2 + 5) if 5 * (edge * tall % narrow) > 3 * narrow)
    return (wide, edge), (2 * width + 37, height + 29), (narrow, tall)


def draw(size: tuple[int, int], seed: int) -> Image.Image:
    """Blocks of colour with fine noise, by integer arithmetic alone: the same image on every machine."""
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
    """(n, SAMPLED) values of preprocessed images, at positions that depend on their size alone."""
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


def canonical_samples(spec: ImageSpec) -> Samples:
    """The images and texts that canonical outputs are of."""
    return Samples(drawn(sizes(spec)), TEXTS)


def canonical_of(known: Reference, spec: ImageSpec, computed_by: str) -> Canonical:
    """What a reference computed for `canonical_samples`, as it is kept in the bundle."""
    tokens = zip(known.tokens.ids, known.tokens.lengths, strict=True)
    return Canonical(
        computed_by=computed_by,
        precision=known.precision,
        images=sizes(spec),
        texts=tuple(known.samples.texts),
        tokens=tuple(tuple(int(number) for number in ids[:length]) for ids, length in tokens),
        pixels=packed(sampled(known.pixels)),
        image_vectors=packed(known.images),
        text_vectors=packed(known.texts),
        scoring=known.scoring,
    )


def measure_figures(bundle: Bundle, canonical: Canonical) -> dict[Precision, Figures]:
    """The worst cosine of each tower at each precision of a bundle, on ONNX Runtime."""
    known = _reference(bundle, canonical)
    return {precision: _figures(known, next(runs(bundle, precision))) for precision in bundle.precisions}


def _figures(known: Reference, run: Run) -> Figures:
    found = (
        (run.encoder.encode_pixels(known.pixels), known.images),
        (run.encoder.encode_tokens(known.tokens), known.texts),
    )
    image, text = (float((ours * theirs).sum(axis=1).min()) for ours, theirs in found)
    return Figures(image=image, text=text)


def verify_canonical(bundle: Bundle, devices: Sequence[Device] | None = None) -> dict[str, Report]:
    """Compare a bundle with the canonical outputs in it: no checkpoint is needed.

    Args:
        bundle: the bundle. Its graphs' inputs and outputs are compared with its manifest too.
        devices: where to run it; by default each precision on each runtime of this machine.

    Returns:
        One report for each precision or device; none if the bundle has no canonical outputs (a warning is logged then).

    Raises:
        BundleInvalid: files of the bundle disagree with each other.
    """
    check_graphs(bundle.folder, bundle.manifest, bundle.graphs)
    if bundle.manifest.family != FOREIGN and not names_pad_token(bundle.folder):
        log.warning(
            "%s: tokenizer_config.json names no padding token, which other programs need for padding=True; "
            "tuwen export %s -o FOLDER writes a bundle that does",
            bundle.folder,
            bundle.folder,
        )
    canonical = read_canonical(bundle)
    if canonical is None:
        foreign = bundle.manifest.family == FOREIGN
        log.warning(
            "%s has no %s, so it can only be compared with itself or its checkpoint; %s adds it",
            bundle.folder,
            CANONICAL,
            "tuwen pull --export" if foreign else f"tuwen export {bundle.folder} -o FOLDER",
        )
        return {}
    known = _reference(bundle, canonical)
    inputs = _check_inputs(bundle, canonical, known)

    def compared(found: Iterable[Run]) -> Report:
        return report([*inputs, *(check for run in found for check in _check_outputs(known, canonical, run))])

    if devices is not None:
        return {device.name: compared([run_on(bundle, device)]) for device in devices}
    return {precision: compared(runs(bundle, precision)) for precision in bundle.precisions}


def _reference(bundle: Bundle, canonical: Canonical) -> Reference:
    """The towers get the bundle's own pixels, whose difference from the recorded ones is a check by itself."""
    path = bundle.folder / CANONICAL
    images, texts = list(drawn(canonical.images)), canonical.texts
    longest = max(map(len, canonical.tokens))
    ids = np.full((len(texts), longest), bundle.manifest.text.pad_id, dtype=np.int64)
    for row, tokens in zip(ids, canonical.tokens, strict=True):
        row[: len(tokens)] = tokens
    return Reference(
        samples=Samples(images, texts),
        pixels=to_pixels(bundle.manifest.image, images),
        tokens=Tokens(ids, np.array([len(tokens) for tokens in canonical.tokens], dtype=np.int64)),
        images=unpacked(canonical.image_vectors, len(images), path),
        texts=unpacked(canonical.text_vectors, len(texts), path),
        scoring=canonical.scoring,
        precision=canonical.precision,
    )


def _check_inputs(bundle: Bundle, canonical: Canonical, known: Reference) -> list[Check]:
    pixels = unpacked(canonical.pixels, len(canonical.images), bundle.folder / CANONICAL)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.text).to_tokens(canonical.texts)
    return [
        check_pixels(sampled(known.pixels), pixels),
        check_tokens(tokens, known.tokens),
        check_scoring(bundle.manifest.scoring, canonical.scoring),
    ]


def _check_outputs(known: Reference, canonical: Canonical, run: Run) -> Iterator[Check]:
    """As `check_outputs`; a vector that is further off than the figure recorded at export allows fails too."""
    figures = canonical.figures.get(run.precision)  # type: ignore[call-overload]  # bf16 is recorded for no bundle
    for check in check_outputs(known, run):
        recorded = {"image": figures.image, "text": figures.text}.get(check.stage) if figures is not None else None
        margin = DROP.get(run.precision)
        if recorded is None or margin is None or check.worst_cosine is None:
            yield check
        else:
            yield check.model_copy(update={"passed": check.passed and check.worst_cosine >= recorded - margin})
