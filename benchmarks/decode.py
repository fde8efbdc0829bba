"""12-megapixel JPEGs to pixels: at reduced scale, exactly, and as open_clip does it; and what that does to vectors.

    python benchmarks/decode.py ../shared/data/flickr8k_200 --rounds 9 --json decode.json
    python benchmarks/decode.py ../shared/data/flickr8k_200 --bundle b32 --count 200

Each JPEG is tiled from four of the folder's photos, with the noise of a sensor, at quality 90. With a bundle, each
is also encoded both ways: how near the two vectors are, and whether they find the same ten of the folder's photos.
"""

import argparse
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Timing, finish, machine, table, take_turns
from PIL import Image

import tuwen
from tuwen.bundle.manifest import ImageSpec
from tuwen.data.decode import Picture, read_image, reading_for
from tuwen.data.pixels import to_pixels
from tuwen.models.torchvision import make_torchvision_importable
from tuwen.types import Pixels, Vectors

SIZES = ((4000, 3000), (3000, 4000), (4032, 3024), (4001, 2999), (4608, 2592))
NOISE = 6.0
"""standard deviation, of 255 grey levels"""
CLIP = ImageSpec(
    size=(224, 224),
    resize="shortest",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
TOP = 10


def main() -> None:
    arguments = parse()
    photos = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    result: dict[str, Any] = {"machine": machine(arguments.threads)}
    rows = times(photos, arguments.threads, arguments.rounds)
    print(table(rows))
    result["times"] = rows
    if arguments.bundle:
        found = agreement(photos, arguments.bundle, arguments.count, arguments.threads)
        print(table([found]))
        result["agreement"] = found
    finish(result, arguments.json)


def large(photos: list[Path], index: int) -> bytes:
    """A JPEG of about 12 megapixels from the photos at `index` and the three after it."""
    width, height = SIZES[index % len(SIZES)]
    tile = (width // 2 + 1, height // 2 + 1)
    whole = Image.new("RGB", (width, height))
    for place in range(4):
        with Image.open(photos[(index + place) % len(photos)]) as photo:
            corner = (place % 2 * (width // 2), place // 2 * (height // 2))
            whole.paste(photo.convert("RGB").resize(tile, Image.Resampling.BICUBIC), corner)
    noise = np.random.default_rng(index).standard_normal((height, width, 3), dtype=np.float32) * NOISE
    file = io.BytesIO()
    Image.fromarray((np.asarray(whole) + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def pixels_of(content: bytes, spec: ImageSpec, *, exact: bool) -> Pixels:
    """(1, 3, h, w)."""
    picture = read_image(content, "large.jpg", reading_for(spec, exact=exact, max_pixels=10**9))
    assert isinstance(picture, Picture), picture
    return to_pixels(spec, [picture.image])


def times(photos: list[Path], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a picture, by one thread and by `threads`, in turns."""
    make_torchvision_importable()
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(), is_train=False)
    contents = [large(photos, index) for index in range(len(SIZES))]
    ways = {
        "reduced": lambda content: pixels_of(content, CLIP, exact=False),
        "exact": lambda content: pixels_of(content, CLIP, exact=True),
        "open_clip": lambda content: transform(Image.open(io.BytesIO(content))),
    }
    rows = []
    for count in sorted({1, threads}):
        with ThreadPoolExecutor(count) as pool:
            calls = {name: lambda _, way=way: list(pool.map(way, contents)) for name, way in ways.items()}
            timings: dict[str, Timing] = take_turns(calls, rounds)
        for name, timing in timings.items():
            milliseconds = timing.median / len(contents) * 1000
            speed = timing.faster_than(timings["open_clip"])
            rows.append({"threads": count, "way": name, "ms_per_picture": milliseconds, "against_open_clip": speed})
    return rows


def agreement(photos: list[Path], bundle: str, count: int, threads: int) -> dict[str, Any]:
    """How near the vectors of both ways are, and how many of `count` large pictures find the same ten photos.

    `worst_loss`: where they do not, by how little the exact cosines of the exchanged ones differ.
    """
    encoder = tuwen.load(bundle, threads=threads)
    index = encoder.encode_images(photos)
    exact, reduced = [], []
    for number in range(count):
        content = large(photos, number)
        exact.append(encoder.encode_pixels(pixels_of(content, encoder.image_spec, exact=True))[0])
        reduced.append(encoder.encode_pixels(pixels_of(content, encoder.image_spec, exact=False))[0])
    cosines = np.sum(np.stack(exact) * np.stack(reduced), axis=1)
    losses = lost(np.stack(exact) @ index.T, np.stack(reduced) @ index.T)
    return {
        "pictures": count,
        "worst_cosine": round(float(cosines.min()), 7),
        "mean_cosine": round(float(cosines.mean()), 7),
        "same_top10": sum(loss == 0 for loss in losses),
        "worst_loss": max(losses),
    }


def lost(exact: Vectors, reduced: Vectors) -> list[float]:
    """By how much, in exact cosine, the ten that reduced scale finds fall short at worst; 0 for the same ten."""
    losses = []
    for true, found in zip(exact, reduced, strict=True):
        best, chosen = np.sort(true)[-TOP:], np.sort(true[np.argsort(found)[-TOP:]])
        losses.append(float((best - chosen).max()))
    return losses


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG photos")
    parser.add_argument("--bundle", default="", help="a bundle's folder or a model's name")
    parser.add_argument("--count", type=int, default=20, help="large pictures to encode both ways")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
