"""The sources of the recipe's raw material, with their licences, and how to download them."""

from dataclasses import dataclass
from pathlib import Path

from recipes.common.packages import fetch

NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
CLDR = Path("/usr/share/unicode/cldr/common")
EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")

DEBIAN = {
    NOTO: "fonts-noto-color-emoji",
    CLDR: "unicode-cldr-core",
    EMOJI_TEST: "unicode-data",
}


@dataclass(frozen=True, slots=True)
class ArtSet:
    """A set of emoji drawings in an npm package with a fixed version."""

    name: str
    package: str
    version: str
    licence: str
    by: str


TRAINED = (
    ArtSet("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft Corporation"),
    ArtSet("fluent", "@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft Corporation"),
    ArtSet("noto-v1", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google Inc."),
    ArtSet("fxemoji", "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla"),
)
HELD_OUT = ArtSet("twemoji", "@twemoji/svg", "15.0.0", "CC-BY-4.0", "Twitter, Inc. and other contributors")


def require_debian() -> None:
    """Exit with the command to install missing Debian packages that the recipe needs."""
    missing = sorted(package for path, package in DEBIAN.items() if not path.exists())
    if missing:
        raise SystemExit(f"missing Debian packages: apt-get install {' '.join(missing)}")


def drawings(art: ArtSet, work: Path) -> Path:
    """The unpacked folder of an npm package, downloaded unless it is already there."""
    return fetch(f"npm:{art.package}@{art.version}", work) / "package"
