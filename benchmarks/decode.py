"""JPEGs decoded at reduced scale: what that saves, and what it does to vectors.

    python benchmarks/decode.py ../shared/data/flickr8k_200 --rounds 9 --json decode.json
    python benchmarks/decode.py ../shared/data/flickr8k_200 --models demo photo ViT-B-16@112 ViT-B-32@224 ViT-B-32@448

First, 12-megapixel JPEGs to pixels by scale, beside open_clip's transform: each is tiled from four of the folder's
photos, with the noise of a sensor, at quality 90.

With --models: the worst cosine between the vectors of a photo decoded at full and at reduced scale, by the gap (how
many decoded pixels are left for one of the model's, along the shorter side). A model is a bundle's folder or name, or
an architecture of open_clip with random weights and an input size. The folder's photos are enlarged to 500 to 6,000
pixels, with noise from 1,000 on.
"""

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from measuring import Timing, finish, machine, table, take_turns
from PIL import Image

import tuwen
from tuwen.bundle.manifest import ImageSpec
from tuwen.data.decode import GAP, Picture, Reading, read_image
from tuwen.data.pixels import to_pixels
from tuwen.models.torchvision import import_open_clip, make_torchvision_importable
from tuwen.types import Pixels, Vectors

SIZES = ((4000, 3000), (3000, 4000), (4032, 3024), (4001, 2999), (4608, 2592))
LENGTHS = (500, 750, 1000, 1500, 2000, 3000, 4000, 6000)
SCALES = (1, 2, 4, 8)
NOISE = 6.0
"""standard deviation, of 255 grey levels"""
GAPS = (2, 3, 4, 5, 6, 8, 10, 14)
MAX_PIXELS = 10**9
CLIP = ImageSpec(
    size=(224, 224),
    resize="shortest",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
Model: TypeAlias = tuple[ImageSpec, Callable[[Pixels], Vectors]]


def main() -> None:
    arguments = parse()
    photos = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    result: dict[str, Any] = {"machine": machine(arguments.threads)}
    if arguments.models:
        models = {name: model(name, arguments.threads) for name in arguments.models}
        rows = agreement(photos, models, arguments.seconds)
    else:
        rows = times(photos, arguments.threads, arguments.rounds)
    print(table(rows))
    finish(result | {"rows": rows}, arguments.json)


def noisy_jpeg(image: Image.Image, seed: int) -> bytes:
    noise = np.random.default_rng(seed).standard_normal((image.height, image.width, 3), dtype=np.float32) * NOISE
    file = io.BytesIO()
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def large(photos: list[Path], index: int) -> bytes:
    """A JPEG of about 12 megapixels from the photos at `index` and the three after it."""
    width, height = SIZES[index % len(SIZES)]
    tile = (width // 2 + 1, height // 2 + 1)
    whole = Image.new("RGB", (width, height))
    for place in range(4):
        with Image.open(photos[(index + place) % len(photos)]) as photo:
            corner = (place % 2 * (width // 2), place // 2 * (height // 2))
            whole.paste(photo.convert("RGB").resize(tile, Image.Resampling.BICUBIC), corner)
    return noisy_jpeg(whole, index)


def enlarged(photo: Path, length: int, seed: int) -> bytes:
    """The photo as a JPEG whose longer side has this length."""
    with Image.open(photo) as opened:
        ratio = length / max(opened.size)
        size = (round(opened.width * ratio), round(opened.height * ratio))
        image = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    if length >= 1000:
        return noisy_jpeg(image, seed)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def at_scale(content: bytes, scale: int) -> Image.Image:
    with Image.open(io.BytesIO(content)) as header:
        near = max(1, min(header.size) // scale // GAP)
    reading = Reading((near, near) if scale > 1 else None, MAX_PIXELS)
    picture = read_image(content, "large.jpg", reading)
    assert isinstance(picture, Picture), picture
    return picture.image


def times(photos: list[Path], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a picture, by one thread and by `threads`, in turns."""
    make_torchvision_importable()
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(), is_train=False)
    contents = [large(photos, index) for index in range(len(SIZES))]
    ways: dict[str, Callable[[bytes], object]] = {
        f"1/{scale}": lambda content, scale=scale: to_pixels(CLIP, [at_scale(content, scale)]) for scale in SCALES
    }
    ways["open_clip"] = lambda content: transform(Image.open(io.BytesIO(content)))
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


def model(name: str, threads: int) -> Model:
    """A bundle's image tower in fp32, or one of open_clip's with random weights."""
    architecture, at, size = name.partition("@")
    if not at:
        encoder = tuwen.load(name, threads=threads, precision="fp32")
        return encoder.image_spec, encoder.encode_pixels
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tower = import_open_clip().create_model(architecture, force_image_size=int(size)).visual.eval()

    def run(pixels: Pixels) -> Vectors:
        with torch.inference_mode():
            vectors: Vectors = torch.nn.functional.normalize(tower(torch.from_numpy(pixels)), dim=-1).numpy()
        return vectors

    return CLIP.model_copy(update={"size": (int(size), int(size))}), run


def agreement(photos: list[Path], models: dict[str, Model], seconds: float) -> list[dict[str, Any]]:
    """For each model and range of gaps, how many photos were compared, and the worst and the median cosine."""
    lost: dict[tuple[str, int], list[float]] = defaultdict(list)
    end = time.monotonic() + seconds
    for content in jpegs(photos):
        images = [at_scale(content, scale) for scale in SCALES]
        for name, (spec, run) in models.items():
            edge = spec.edge or max(spec.size)
            gaps = [min(image.size) / edge for image in images]
            places = [0] + [place for place in range(1, len(SCALES)) if GAPS[0] <= gaps[place] < GAPS[-1]]
            if len(places) == 1:
                continue
            vectors = run(np.concatenate([to_pixels(spec, [images[place]]) for place in places])).astype(np.float64)
            for place, cosine in zip(places[1:], vectors[1:] @ vectors[0], strict=True):
                lost[name, max(gap for gap in GAPS if gap <= gaps[place])].append(1 - float(cosine))
        if time.monotonic() > end:
            break
    return [
        {
            "model": name,
            "gap": f"{gap} to {GAPS[GAPS.index(gap) + 1]}",
            "photos": len(values),
            "1 - worst cosine": f"{max(values):.1e}",
            "1 - median cosine": f"{np.median(values):.1e}",
        }
        for (name, gap), values in sorted(lost.items())
    ]


def jpegs(photos: list[Path]) -> Iterator[bytes]:
    """The photos in turn at each of `LENGTHS`, without end."""
    number = 0
    while True:
        for length in LENGTHS:
            yield enlarged(photos[number * 17 % len(photos)], length, number)
            number += 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEG photos")
    parser.add_argument("--models", nargs="*", default=[], help="compare vectors of these models, in place of times")
    parser.add_argument("--seconds", type=float, default=240, help="how long to compare vectors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
