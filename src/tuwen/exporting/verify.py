"""The proof beside a bundle: stage by stage, what it computes against what its checkpoint computes in torch.

Knows the towers and an encoder that runs the bundle. Does not know how either was made.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.companions import check_graphs, names_pad_token
from tuwen.bundle.manifest import FOREIGN, Check, ImageSpec, Precision, Report, Scoring, Tower
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput, TuwenError
from tuwen.exporting.canonical import (
    CANONICAL,
    DROP,
    Canonical,
    Figures,
    drawn,
    packed,
    read_canonical,
    sampled,
    sizes,
    unpacked,
)
from tuwen.exporting.canonical import TEXTS as CANONICAL_TEXTS
from tuwen.exporting.checks import (
    Stage,
    check_labels,
    check_pixels,
    check_similarity,
    check_tokens,
    check_vectors,
    failed,
    probabilities,
)
from tuwen.exporting.graph import UnitLength
from tuwen.exporting.samples import Samples, built_in
from tuwen.models.towers import Towers, vectors
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.machine import native_precisions
from tuwen.runtime.selection import RUNTIMES, Choice, make_plan, open_session
from tuwen.runtime.session import Session
from tuwen.types import Pixels, Tokens, Vectors

# ---- The ways to run a bundle that verification goes through

_FROM_BEST = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Run:
    """A bundle's files of one precision on one runtime.

    Attributes:
        runtime: its name, or its place's.
        precision: the lesser of what the files hold and what the runtime computes in, which bounds the error.
        encoder: the bundle, ready to run.
    """

    runtime: str
    precision: str
    encoder: Encoder


@dataclass(frozen=True, slots=True)
class Place:
    """A device, perhaps with the runtime and the precision, as it was written.

    Attributes:
        name: e.g. `cuda`, `cpu:openvino`, `cpu@int8`.
        choice: what it says.
    """

    name: str
    choice: Choice


def read_places(text: str) -> list[Place]:
    """`cpu,cuda:1,cpu:openvino@int8` to places: DEVICE[:RUNTIME][@PRECISION] each; `auto` where nothing is said.

    Raises:
        InvalidInput: fewer than two, one twice, or a part that is no device, runtime or precision.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if len(set(names)) < max(2, len(names)):
        raise InvalidInput(f"{text!r} names no two different devices to compare: write e.g. cpu,cuda")
    return [Place(name, _choice(name)) for name in names]


def run_at(bundle: Bundle, place: Place) -> Run:
    """The bundle at a place.

    Raises:
        RuntimeUnavailable: it is not on this machine, or the bundle has no file for it.
    """
    plan = make_plan(bundle, place.choice)
    return Run(place.name, lesser(plan.file, plan.precision), _encoder(bundle, place.choice))


def lesser(one: str, other: str) -> str:
    """Of two precisions, the one that bounds the error."""
    return max(one, other, key=_FROM_BEST.index)


def runs(bundle: Bundle, precision: Precision) -> Iterator[Run]:
    """The bundle's files of `precision` by each runtime; fp32 ones in bf16 too, where the CPU has it."""
    graphs = {place: path for place, path in bundle.graphs.items() if place[1] == precision}
    files = replace(bundle, graphs=graphs)
    computed = "int8" if precision == "int8" else "fp32"
    for runtime in ("onnxruntime", "openvino"):
        yield Run(runtime, precision, _encoder(files, Choice(runtime, "cpu", computed)))
    if precision == "fp32" and "bf16" in native_precisions("cpu"):
        yield Run("openvino", "bf16", _encoder(files, Choice("openvino", "cpu", "bf16")))


def _choice(name: str) -> Choice:
    place, _, precision = name.partition("@")
    device, _, runtime = place.rpartition(":")
    if device and runtime in RUNTIMES:
        return Choice(runtime, device, precision or "auto")
    return Choice("auto", place, precision or "auto")


def _encoder(bundle: Bundle, choice: Choice) -> Encoder:
    """Exact decoding, as the checkpoint's own; no cache of compiled models: what was just written is verified."""
    plan = make_plan(bundle, choice)

    def load(tower: Tower) -> Session:
        return open_session(bundle, tower, plan, cache=None)

    return Encoder(bundle, load, precision=plan.precision, exact_decode=True)


def image_vectors(encoder: Encoder, pixels: Pixels) -> NDArray[np.float32]:
    """(2, n, dim): all at once, and one by one."""
    each = [encoder.encode_pixels(pixels[row : row + 1]) for row in range(len(pixels))]
    return np.stack([encoder.encode_pixels(pixels), np.concatenate(each)])


def text_vectors(encoder: Encoder, tokens: Tokens) -> NDArray[np.float32]:
    """(2, n, dim): all at once, and one by one."""
    rows = (Tokens(tokens.ids[row : row + 1], tokens.lengths[row : row + 1]) for row in range(len(tokens.ids)))
    each = [encoder.encode_tokens(row) for row in rows]
    return np.stack([encoder.encode_tokens(tokens), np.concatenate(each)])


# ---- The proof beside a bundle

log = logging.getLogger(__name__)

AT_A_TIME = 2
"""Ways to run a bundle that are verified side by side: one that loads its model keeps one core busy, no more."""

_Computed: TypeAlias = Callable[[], NDArray[np.float32]]
_Compared: TypeAlias = Callable[[NDArray[np.float32]], Check]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the checkpoint itself makes of the samples, in torch at fp32.

    Attributes:
        samples: the pictures and texts.
        pixels: (n, 3, h, w), the authors' own preprocessing of the pictures.
        tokens: the authors' own tokens of the texts, padded to the context length.
        images: (n, dim), a unit vector a picture.
        texts: (m, dim), a unit vector a text.
        scoring: how their cosines become probabilities.
        own: whether it comes from the bundle itself (`baseline`): then its pixels and tokens prove nothing.
        precision: what it was computed in.
    """

    samples: Samples
    pixels: Pixels
    tokens: Tokens
    images: Vectors
    texts: Vectors
    scoring: Scoring
    own: bool = False
    precision: str = "fp32"


def reference(towers: Towers, samples: Samples) -> Reference:
    """Run the checkpoint's own preprocessing, tokenizer and towers on the samples."""
    pixels = towers.to_pixels(samples.images)
    tokens = towers.to_tokens(samples.texts)
    tower = UnitLength(towers.vision).eval()
    with torch.inference_mode():
        images = [tower(torch.from_numpy(pixels[start : start + 8])).numpy() for start in range(0, len(pixels), 8)]
    texts = vectors(towers.text, tokens, mask=towers.text_spec.mask)
    return Reference(samples, pixels, tokens, np.concatenate(images), texts, towers.scoring)


def baseline(bundle: Bundle, samples: Samples) -> Reference:
    """What the bundle's own best files make of the samples on ONNX Runtime, where its checkpoint is not at hand."""
    return of_run(next(runs(bundle, bundle.precisions[0])), samples)


def of_run(run: Run, samples: Samples) -> Reference:
    """What one way to run a bundle makes of the samples: what other ways are compared with."""
    encoder = run.encoder
    pixels, tokens = to_pixels(encoder.image_spec, samples.images), encoder.to_tokens(samples.texts)
    images, texts = encoder.encode_pixels(pixels), encoder.encode_tokens(tokens)
    return Reference(samples, pixels, tokens, images, texts, encoder.scoring, own=True, precision=run.precision)


def verify(bundle: Bundle, known: Reference) -> dict[Precision, Report]:
    """Run every file of a bundle on every runtime here, and compare: one report a precision."""
    tokenizer = Tokenizer(bundle.tokenizer, bundle.manifest.text)
    inputs = [] if known.own else check_inputs(known, bundle.manifest.image, tokenizer)

    def outputs(run: Run) -> list[Check]:
        return list(check_outputs(known, run))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = {precision: pool.map(outputs, runs(bundle, precision)) for precision in bundle.precisions}
        return {precision: _report([*inputs, *chain.from_iterable(found[precision])]) for precision in found}


def _report(checks: Sequence[Check]) -> Report:
    return Report(passed=all(check.passed for check in checks), checks=tuple(checks))


def compare_places(bundle: Bundle, places: Sequence[Place], samples: Samples) -> list[Report]:
    """Run a bundle at each place, and compare all but the first with the first: one report for each of these.

    Raises:
        RuntimeUnavailable: a place is not to be had here.
    """
    first, *others = [run_at(bundle, place) for place in places]
    known = of_run(first, samples)
    return [_report(list(check_outputs(known, run))) for run in others]


def check_inputs(known: Reference, image_spec: ImageSpec, tokenizer: Tokenizer) -> list[Check]:
    """The stages before any runtime: pixels within `PIXELS_MAX`, token ids equal one by one."""
    pixels = to_pixels(image_spec, known.samples.images)
    tokens = tokenizer.to_tokens(known.samples.texts)
    return [check_pixels(pixels, known.pixels), check_tokens(tokens, known.tokens)]


def check_outputs(known: Reference, run: Run) -> Iterator[Check]:
    """The stages that a runtime computes: each tower on the checkpoint's own inputs, then the whole way.

    Each tower runs once with everything in one batch and once alone, and must be right both times.

    Args:
        known: the checkpoint's outcome.
        run: the bundle on one runtime at one precision.
    """
    encoder, samples = run.encoder, known.samples
    runtime, precision = run.runtime, lesser(run.precision, known.precision)
    cosines = known.images @ known.texts.T

    @cache
    def scores() -> NDArray[np.float32]:
        return encoder.encode_images(samples.images) @ encoder.encode_texts(samples.texts).T

    def labels(found: NDArray[np.float32]) -> Check:
        ours, theirs = probabilities(encoder.scoring, found), probabilities(known.scoring, cosines)
        return check_labels(runtime, precision, ours, theirs, own=samples.labelled)

    stages: dict[Stage, tuple[_Computed, _Compared]] = {
        "image": (
            lambda: image_vectors(encoder, known.pixels),
            lambda found: check_vectors("image", runtime, precision, found, known.images),
        ),
        "text": (
            lambda: text_vectors(encoder, known.tokens),
            lambda found: check_vectors("text", runtime, precision, found, known.texts),
        ),
        "similarity": (scores, lambda found: check_similarity(runtime, precision, found, cosines)),
        "labels": (scores, labels),
    }
    for stage, (compute, compare) in stages.items():
        try:
            yield compare(compute())
        except TuwenError as error:  # no vectors at all, or such as are not finite
            log.warning("stage %s on %s (%s): %s", stage, runtime, precision, error)
            yield failed(stage, runtime, precision)


# ---- Canonical outputs: recorded at export, compared with at any later time


def canonical_samples(spec: ImageSpec) -> Samples:
    """The images and texts that canonical outputs are of."""
    return Samples(drawn(sizes(spec)), CANONICAL_TEXTS)


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
    known = _canonical_reference(bundle, canonical)
    return {precision: _figures(known, next(runs(bundle, precision))) for precision in bundle.precisions}


def _figures(known: Reference, run: Run) -> Figures:
    found = (
        (run.encoder.encode_pixels(known.pixels), known.images),
        (run.encoder.encode_tokens(known.tokens), known.texts),
    )
    image, text = (float((ours * theirs).sum(axis=1).min()) for ours, theirs in found)
    return Figures(image=image, text=text)


def verify_canonical(bundle: Bundle, places: Sequence[Place] | None = None) -> dict[str, Report]:
    """Compare a bundle with the canonical outputs in it: no checkpoint is needed.

    Args:
        bundle: the bundle. Its graphs' inputs and outputs are compared with its manifest too.
        places: where to run it; every precision on every runtime of this machine where it is None.

    Returns:
        One report a precision or place; none if the bundle has no canonical outputs (a warning is logged then).

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
        log.warning(
            "%s has no %s: it can be compared with itself or its checkpoint only; tuwen export adds it",
            bundle.folder,
            CANONICAL,
        )
        return {}
    known = _canonical_reference(bundle, canonical)
    inputs = _check_canonical_inputs(bundle, canonical, known)
    if places is not None:
        return {
            place.name: _report([*inputs, *_check_canonical_outputs(known, canonical, run_at(bundle, place))])
            for place in places
        }
    return {
        precision: _report(
            [
                *inputs,
                *chain.from_iterable(
                    _check_canonical_outputs(known, canonical, run) for run in runs(bundle, precision)
                ),
            ]
        )
        for precision in bundle.precisions
    }


def verify_alone(bundle: Bundle, samples: Samples | None = None) -> tuple[str, list[Report]]:
    """Verify a bundle whose checkpoint is not at hand.

    Every precision on every runtime is compared with the canonical outputs in the bundle. On samples of the caller's
    own, and where there are no canonical outputs, they are also compared with the bundle's best files.

    Returns:
        What it was compared with, in words, and the reports.

    Raises:
        BundleInvalid: files of the bundle disagree with each other.
    """
    reports = list(verify_canonical(bundle).values())
    against = ["its canonical outputs"] if reports else []
    if samples is not None or not reports:
        known = baseline(bundle, samples or built_in())
        reports += verify(bundle, known).values()
        against.append(f"its own {bundle.precisions[0]} files on ONNX Runtime")
    return " and ".join(against), reports


def _canonical_reference(bundle: Bundle, canonical: Canonical) -> Reference:
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


def _check_canonical_inputs(bundle: Bundle, canonical: Canonical, known: Reference) -> list[Check]:
    pixels = unpacked(canonical.pixels, len(canonical.images), bundle.folder / CANONICAL)
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.text).to_tokens(canonical.texts)
    return [check_pixels(sampled(known.pixels), pixels), check_tokens(tokens, known.tokens)]


def _check_canonical_outputs(known: Reference, canonical: Canonical, run: Run) -> Iterator[Check]:
    """As `check_outputs`; a vector that is further off than the figure recorded at export allows fails too."""
    figures = canonical.figures.get(run.precision)  # type: ignore[call-overload]  # bf16 is recorded for no bundle
    for check in check_outputs(known, run):
        recorded = {"image": figures.image, "text": figures.text}.get(check.stage) if figures is not None else None
        margin = DROP.get(run.precision)
        if recorded is None or margin is None or check.worst_cosine is None:
            yield check
        else:
            yield check.model_copy(update={"passed": check.passed and check.worst_cosine >= recorded - margin})
