"""How much a model's vectors change when JPEGs are decoded at reduced scale.

Reduced scale changes many pixels by a level or two. Most models hardly notice; a few turn that into a cosine of
0.9999, and then their images are decoded at full scale (`Encoder.reading`).
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tuwen.bundle.bundle import Bundle
from tuwen.data.decode import GAP, Picture, Reading, read_image, reading_for
from tuwen.data.pixels import to_pixels
from tuwen.demo import photo_gallery
from tuwen.exporting.runs import runs
from tuwen.runtime.encoder import MAX_PIXELS
from tuwen.types import Pixels

PHOTOS = 4
"""the number of photos that are compared"""
NOISE = 5.0
"""standard deviation of the noise of their pixels, in grey levels: a phone's in daylight"""


def reduced_decoding_cosine(bundle: Bundle) -> float:
    """The worst cosine between a photo's vectors from decoding at reduced and at full scale.

    The photos are packaged ones, enlarged so that reduced decoding leaves no more pixels than it must, with the noise
    of a sensor. Computed in fp32 on ONNX Runtime, if the bundle has such files.
    """
    encoder = next(runs(bundle, bundle.precisions[0])).encoder
    spec = bundle.manifest.image
    ways = [reading_for(spec, exact=False, max_pixels=MAX_PIXELS, reduced=reduced) for reduced in (False, True)]
    shorter = 2 * GAP * max(spec.edge or 0, *spec.size)
    files = sorted(photo_gallery().rglob("*.jpg"))
    contents = [_enlarged(files[place], shorter, place) for place in _spread(len(files))]
    full, reduced = (
        encoder.encode_pixels(np.concatenate([_pixels(content, way, bundle) for content in contents])) for way in ways
    )
    return float(np.sum(full * reduced, axis=1, dtype=np.float64).min())


def _spread(count: int) -> range:
    return range(0, count, -(-count // PHOTOS))


def _enlarged(photo: Path, shorter: int, seed: int) -> bytes:
    """The photo as a JPEG whose shorter side has this length."""
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    ratio = shorter / min(image.size)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).standard_normal((image.height, image.width, 3), dtype=np.float32)
    file = io.BytesIO()
    Image.fromarray((np.asarray(image) + NOISE * noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _pixels(content: bytes, reading: Reading, bundle: Bundle) -> Pixels:
    picture = read_image(content, "photo.jpg", reading)
    assert isinstance(picture, Picture), picture
    return to_pixels(bundle.manifest.image, [picture.image])
