"""Benchmark targets: a model's files on each runtime of this machine, in each precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.converted import read_converted
from tuwen.bundle.manifest import TOWERS, Tower
from tuwen.data.decode import Picture, Reading, read_image, reading_for
from tuwen.data.pixels import to_pixels
from tuwen.errors import RejectedImages, RuntimeUnavailable
from tuwen.runtime.converted import converted_encoder, open_converted
from tuwen.runtime.encoder import MAX_PIXELS, Encoder, bears_reduced_decoding
from tuwen.runtime.loading import with_truncation
from tuwen.runtime.selection import COMPUTED, RUNTIMES, Choice, Plan, make_plan, open_session
from tuwen.runtime.session import Session
from tuwen.runtime.tower import LazyTower, image_batches
from tuwen.types import Pixels, Rejected, Tokens


@dataclass(frozen=True, slots=True)
class Target:
    """One way to compute a model's vectors.

    Attributes:
        runtime: its name, e.g. `openvino`.
        precision: what it computes in.
        device: where.
        to_pixels: contents of image files to pixels.
        to_tokens: texts to tokens.
        images: pixels to vectors, in one run unless the graph has a fixed batch size.
        texts: tokens to vectors.
        towers: those that it has.
        converted: the folder of a converted bundle, None for the bundle's own files.
    """

    runtime: str
    precision: str
    device: str
    to_pixels: Callable[[Sequence[bytes]], Pixels]
    to_tokens: Callable[[Sequence[str]], Tokens]
    images: Callable[[Pixels], NDArray[np.float32]]
    texts: Callable[[Tokens], NDArray[np.float32]]
    towers: tuple[Tower, ...] = TOWERS
    converted: Path | None = None

    @property
    def name(self) -> str:
        """Runtime and precision, e.g. `openvino bf16`."""
        return f"{self.runtime} {self.precision}"


def bundle_targets(
    bundle: Bundle,
    *,
    runtimes: Sequence[str] = (),
    precisions: Sequence[str] = (),
    device: str = "auto",
    threads: int | None = None,
    cache: Path | None = None,
) -> list[Target]:
    """Every way in which this machine runs a bundle, by runtime and precision.

    A combination that is not available is left out, unless both its runtime and its precision are named. fp16 files
    on a device that computes in fp32 anyway are left out beside fp32, unless fp16 is named.

    Args:
        bundle: the model. Its towers are loaded when they first run.
        runtimes: names; empty: all.
        precisions: likewise.
        device: as in `Choice`.
        threads: for computing.
        cache: where compiled models are kept.

    Raises:
        InvalidInput: an unknown runtime, device or precision.
        RuntimeUnavailable: none is available here, or one that is named is not.
    """
    found: dict[tuple[str, str, str], Target] = {}
    refused: list[RuntimeUnavailable] = []
    for runtime in runtimes or RUNTIMES[1:]:
        for precision in precisions or COMPUTED:
            try:
                plan = make_plan(bundle, Choice(runtime, device, precision, threads))
            except RuntimeUnavailable as error:
                refused.append(error)
                continue
            names = (plan.runtime, precision if precisions else plan.precision, plan.device)
            if names not in found:
                found[names] = _planned(with_truncation(bundle, plan, cache), plan, names, cache)
    if refused and (not found or (precisions and runtimes)):
        raise refused[0]
    return list(found.values())


def _planned(bundle: Bundle, plan: Plan, names: tuple[str, str, str], cache: Path | None) -> Target:
    def opened(tower: Tower) -> Session:
        return open_session(bundle, tower, plan, cache)

    encoder = Encoder(bundle, opened, precision=plan.precision)
    return _target(bundle, encoder, LazyTower(bundle, "vision", opened), names)


def converted_target(bundle: Bundle, folder: Path, threads: int) -> Target:
    """What `tuwen convert` wrote of a bundle.

    Raises:
        BundleError: the folder has no converted bundle, or that of another model, or a file has changed.
        RuntimeUnavailable: tuwen does not run this format.
    """
    converted = read_converted(folder, bundle)
    encoder = converted_encoder(bundle, converted, folder, threads)
    vision = LazyTower(bundle, "vision", lambda tower: open_converted(converted, folder, tower, threads))
    runtime = "openvino-ir" if converted.to == "openvino" else converted.to
    target = _target(bundle, encoder, vision, (runtime, converted.precision, "cpu"))
    return replace(target, towers=tuple(converted.inputs), converted=folder)


def _target(bundle: Bundle, encoder: Encoder, vision: LazyTower, names: tuple[str, str, str]) -> Target:
    """A target that prepares inputs as the bundle's encoder does. Images run through `vision`: it splits batches."""
    reduced = bears_reduced_decoding(bundle.manifest)
    reading = reading_for(encoder.image_spec, exact=False, max_pixels=MAX_PIXELS, reduced=reduced)

    def images(pixels: Pixels) -> NDArray[np.float32]:
        port = vision.pixel_port()
        runs = image_batches(len(pixels), port.shape[0]) if port.shape[0] else [slice(None)]
        return np.concatenate([vision.run({port: pixels[rows]}) for rows in runs])

    return Target(
        *names,
        to_pixels=lambda files: to_pixels(encoder.image_spec, _decoded(files, reading)),
        to_tokens=encoder.to_tokens,
        images=images,
        texts=encoder.encode_tokens,
    )


def _decoded(files: Sequence[bytes], reading: Reading) -> list[Image.Image]:
    found = [read_image(content, f"image {number}", reading) for number, content in enumerate(files)]
    rejected = [item for item in found if isinstance(item, Rejected)]
    if rejected:
        raise RejectedImages(rejected)
    return [item.image for item in found if isinstance(item, Picture)]
