"""Who takes part in a benchmark: a model's files on each runtime of this machine, in each precision.

Knows bundles and plans. Does not time anything (`bench.py`), nor know torch, whose contenders are made above.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
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
from tuwen.runtime.encoder import MAX_PIXELS, Encoder
from tuwen.runtime.loading import with_truncation
from tuwen.runtime.selection import COMPUTED, RUNTIMES, Choice, Plan, make_plan, open_session
from tuwen.runtime.tower import LazyTower, image_batches
from tuwen.types import Pixels, Rejected, Tokens


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to compute a model's vectors.

    Attributes:
        runtime: its name, e.g. `openvino`.
        precision: what it computes in.
        device: where.
        to_pixels: contents of picture files to pixels.
        to_tokens: texts to tokens.
        images: pixels to vectors, all in one run unless the graph insists on its batch.
        texts: tokens to vectors.
        towers: those that it has.
        converted: the folder that it is in, if it is not of the bundle's own files.
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
        """What to call it."""
        return f"{self.runtime} {self.precision}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which contenders.

    Attributes:
        runtimes: names; empty: all.
        precisions: likewise.
        device: as in `Choice`.
        threads: for computing.
    """

    runtimes: Sequence[str]
    precisions: Sequence[str]
    device: str
    threads: int


def plans(bundle: Bundle, wanted: Wanted) -> Iterator[tuple[str, Plan]]:
    """Every way in which this machine runs the bundle, as wanted: the precision's name, and the plan.

    What is named and cannot be had is an error; what is not named is left out then. fp16 files on a device that
    computes in fp32 anyway are left out beside fp32, unless they are named.

    Raises:
        InvalidInput: a runtime or precision of which there is none.
        RuntimeUnavailable: none is left, or one that is named is not here.
    """
    seen, refused = set[tuple[str, str, str]](), list[RuntimeUnavailable]()
    for runtime in wanted.runtimes or RUNTIMES[1:]:
        for precision in wanted.precisions or COMPUTED[1:]:
            choice = Choice(runtime, wanted.device, precision, wanted.threads)
            try:
                plan = make_plan(bundle, choice)
            except RuntimeUnavailable as error:
                refused.append(error)
                continue
            key = (plan.runtime, plan.device, precision if wanted.precisions else plan.precision)
            if key not in seen:
                seen.add(key)
                yield key[2], plan
    if refused and (not seen or (wanted.precisions and wanted.runtimes)):
        raise refused[0]


def contender(bundle: Bundle, precision: str, plan: Plan, cache: Path | None) -> Contender:
    """A bundle as planned. Its towers are loaded when they are first used."""
    known = with_truncation(bundle, plan, cache)
    encoder = Encoder(known, lambda tower: open_session(known, tower, plan, cache), precision=plan.precision)
    vision = LazyTower(known, "vision", lambda tower: open_session(known, tower, plan, cache))
    return of_encoder(encoder, vision, (plan.runtime, precision, plan.device))


def converted_contender(bundle: Bundle, folder: Path, threads: int) -> Contender:
    """What a bundle was converted to.

    Raises:
        BundleError: there is nothing converted there, or another model, or a file has changed.
        RuntimeUnavailable: tuwen does not run what it was converted to.
    """
    found = read_converted(folder, bundle)
    encoder = converted_encoder(bundle, found, folder, threads)
    vision = LazyTower(bundle, "vision", lambda tower: open_converted(found, folder, tower, threads))
    runtime = "openvino-ir" if found.to == "openvino" else found.to
    known = of_encoder(encoder, vision, (runtime, found.precision, "cpu"))
    return replace(known, towers=tuple(found.inputs), converted=folder)


def of_encoder(encoder: Encoder, vision: LazyTower, names: tuple[str, str, str]) -> Contender:
    """A contender that prepares and encodes as tuwen does.

    Args:
        encoder: for tokens and texts.
        vision: for pictures: an encoder would divide large batches.
        names: runtime, precision, device.
    """
    reading = reading_for(encoder.image_spec, exact=False, max_pixels=MAX_PIXELS)

    def prepared(files: Sequence[bytes]) -> Pixels:
        return to_pixels(encoder.image_spec, opened(files, reading))

    def images(pixels: Pixels) -> NDArray[np.float32]:
        port = vision.pixel_port()
        runs = image_batches(len(pixels), port.shape[0]) if port.shape[0] else [slice(None)]
        return np.concatenate([vision.run({port: pixels[rows]}) for rows in runs])

    return Contender(*names, prepared, encoder.to_tokens, images, encoder.encode_tokens)


def opened(files: Sequence[bytes], reading: Reading) -> list[Image.Image]:
    """Picture files, decoded.

    Raises:
        RejectedImages: one cannot be read.
    """
    found = [read_image(content, f"picture {number}", reading) for number, content in enumerate(files)]
    rejected = [item for item in found if isinstance(item, Rejected)]
    if rejected:
        raise RejectedImages(rejected)
    return [item.image for item in found if isinstance(item, Picture)]


def opened_plainly(files: Sequence[bytes]) -> list[Image.Image]:
    """Picture files, decoded as the reference libraries do it: every pixel."""
    return [Image.open(BytesIO(content)).convert("RGB") for content in files]
