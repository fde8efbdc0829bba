"""Photos to measure on: as large, noisy and compressed as a camera's, or small and many; no two alike."""

import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SHARED = Path(__file__).parents[3] / "shared" / "data" / "flickr8k_200" / "images"
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}
LARGE, TILES = (4000, 3000), 4
NOISE = 5.0
"""Standard deviation of the sensor noise, in grey levels: a phone's in daylight."""


def make_large(folder: Path, count: int) -> None:
    """Write `count` JPEGs of 12 megapixels: 4 by 4 photos each, as a camera's sensor and compression leave them."""
    folder.mkdir()
    sources = _sources()
    size = (LARGE[0] // TILES, LARGE[1] // TILES)
    for number in range(count):
        rng = np.random.default_rng(number)
        picture = Image.new("RGB", LARGE)
        for tile, source in enumerate(rng.integers(0, len(sources), TILES * TILES)):
            place = (tile % TILES * size[0], tile // TILES * size[1])
            picture.paste(_read(sources[source]).resize(size, Image.Resampling.BICUBIC), place)
        _noisy(picture, rng).save(folder / f"{number:05}.jpg", quality=90)


def as_webdataset(photos: Path, archive: Path) -> None:
    """The same files in an archive."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(photos.iterdir()):
            tar.add(path, path.name)


def as_parquet(photos: Path, table: Path) -> None:
    """The same files as rows of a table, in groups of 50 as img2dataset might write them."""
    import pyarrow
    import pyarrow.parquet

    paths = sorted(photos.iterdir())
    rows = {"key": [path.stem for path in paths], "jpg": [path.read_bytes() for path in paths]}
    pyarrow.parquet.write_table(pyarrow.table(rows), table, row_group_size=50)


def make_small(folder: Path, count: int) -> None:
    """Write `count` JPEGs of 320 x 240, each a part of a photo, in folders of a thousand."""
    sources = [_read(path) for path in _sources()]
    for number in range(count):
        rng = np.random.default_rng(number)
        source = sources[number % len(sources)]
        left, top = (int(rng.integers(0, max(1, length // 2))) for length in source.size)
        part = source.crop((left, top, left + source.width // 2, top + source.height // 2)).resize((320, 240))
        path = folder / f"{number // 1000:03}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _noisy(part, rng).save(path, quality=90)


def _sources() -> list[Path]:
    from tuwen.demo import demo_gallery

    folder = SHARED if SHARED.is_dir() else demo_gallery()
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _read(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _noisy(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with noise on it: without, a JPEG compresses and decodes faster than any camera's."""
    values = np.asarray(picture, dtype=np.float32)
    values = values + NOISE * rng.standard_normal(values.shape, dtype=np.float32)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))
