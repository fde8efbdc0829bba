"""The emoji, their groups, and their names and keywords in 18 languages, from Unicode's files.

The files are `emoji-test.txt` and the annotations of CLDR.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from xml.etree import ElementTree

from recipes.emoji.sources import CLDR, EMOJI_TEST

LANGUAGES = (
    "en",
    "zh",
    "ja",
    "ko",
    "fr",
    "de",
    "es",
    "it",
    "pt",
    "nl",
    "pl",
    "ru",
    "uk",
    "ar",
    "hi",
    "th",
    "tr",
    "vi",
)
SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))
TWINS = frozenset(
    {"1f468-200d-1f468-200d-1f466"}
    | {"-".join(f"{ord(c) + 0x1F1A5:x}" for c in r) for r in ("HM", "BV", "SJ", "CP", "MF", "DG", "EA", "UM")}
)
"""emoji that Noto draws exactly like another one, which are left out (the flag of Bouvet Island is Norway's)"""
HELD_OUT_SHARE = 0.10
"""the share of (emoji, keyword) pairs that are held out"""
HELD_OUT_LEAST = 4
"""a keyword is only held out for an emoji if at least this many other emoji have it"""


@dataclass(frozen=True, slots=True)
class Emoji:
    """An emoji: its characters, English slug, group, and for each language its CLDR name and keywords."""

    text: str
    slug: str
    group: str
    names: dict[str, str]
    keywords: dict[str, tuple[str, ...]]

    @property
    def code(self) -> str:
        """Its code points without variation selectors, e.g. `1f468-200d-1f33e`."""
        return code(self.text)


def code(text: str) -> str:
    """Code points in hexadecimal, joined by `-`, without variation selectors."""
    return "-".join(f"{ord(c):x}" for c in bare(text))


def bare(text: str) -> str:
    """An emoji without U+FE0F, which CLDR leaves out of its keys."""
    return text.replace("\ufe0f", "")


def fold(caption: str) -> str:
    """The form under which two captions are the same: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", caption).lower().split())


def slug(name: str) -> str:
    """Kebab case in ASCII: `Côte d’Ivoire` becomes `cote-d-ivoire`."""
    plain = unicodedata.normalize("NFKD", name.replace("&", "and").replace("#", "hash").replace("*", "asterisk"))
    ascii_only = "".join(c for c in plain if not unicodedata.combining(c)).lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")


def read_emoji() -> list[Emoji]:
    """Read all fully qualified emoji without skin tone that have a name in all languages, in Unicode's order."""
    words = {language: _annotations(language) for language in LANGUAGES}
    found = []
    for text, group in _emoji_test():
        entries = {language: words[language].get(bare(text)) for language in LANGUAGES}
        if any(entry is None or not entry[0] for entry in entries.values()):
            continue
        names = {language: entry[0] for language, entry in entries.items() if entry}
        keywords = {language: entry[1] for language, entry in entries.items() if entry}
        found.append(Emoji(text, slug(names["en"]), slug(group), names, keywords))
    return found


def held_out(emoji: list[Emoji]) -> set[tuple[str, str]]:
    """The held-out pairs (code, folded keyword), chosen by hash, so that they are the same in every run.

    A keyword that is part of one of the emoji's own names is never held out, since the name would reveal it. A
    pair is held out in every language that spells the keyword the same.
    """
    owners = Counter(pair[1] for pair in {(e.code, k) for e in emoji for k in all_keywords(e)})
    chosen = set()
    for e in emoji:
        names = [fold(name) for name in e.names.values()]
        for keyword in all_keywords(e):
            if owners[keyword] <= HELD_OUT_LEAST or any(keyword in name for name in names):
                continue
            digest = hashlib.sha256(f"{e.code}\t{keyword}".encode()).digest()
            if int.from_bytes(digest[:4]) < HELD_OUT_SHARE * 2**32:
                chosen.add((e.code, keyword))
    return chosen


def all_keywords(emoji: Emoji) -> set[str]:
    """Its keywords in every language, folded."""
    return {fold(keyword) for keywords in emoji.keywords.values() for keyword in keywords}


def _emoji_test() -> list[tuple[str, str]]:
    group, found = "", []
    for line in EMOJI_TEST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        match = re.match(r"([0-9A-F ]+?) *; fully-qualified", line)
        if match:
            points = [int(point, 16) for point in match[1].split()]
            text = "".join(map(chr, points))
            if not SKIN_TONES.intersection(points) and code(text) not in TWINS:
                found.append((text, group))
    return found


def _annotations(language: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for folder in ("annotations", "annotationsDerived"):
        for node in ElementTree.parse(CLDR / folder / f"{language}.xml").iter("annotation"):
            text = node.text or ""
            if node.get("type") == "tts":
                names[node.attrib["cp"]] = text.strip()
            else:
                parts = (part.strip() for part in text.split("|"))
                keywords[node.attrib["cp"]] = tuple(part for part in parts if part)
    return {cp: (name, keywords.get(cp, ())) for cp, name in names.items() if "↑" not in name}


def sample(step: int = 12) -> str:
    """Every `step`-th emoji as a line: its picture in the gallery and its name in each language, tab-separated."""
    rows = [["picture", *LANGUAGES]]
    rows += [[f"{e.group}/{e.slug}.webp", *(e.names[language] for language in LANGUAGES)] for e in read_emoji()[::step]]
    return "".join("\t".join(row) + "\n" for row in rows)


if __name__ == "__main__":
    print(sample(), end="")
