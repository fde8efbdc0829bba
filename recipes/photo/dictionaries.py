"""What dictionaries say about words: which meanings they have in each language, and how often they are written.

Sources are WordNet, the Open Multilingual Wordnet with its extracts of Wiktionary and the CLDR, CC-CEDICT for Chinese,
and the lists of frequencies that `wordfreq` collects.
"""

import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import category, normalize

import msgpack
from recipes.photo.sources import SHARED
from recipes.photo.wordnet import WordNet

VOWEL_SIGNS = "[\u0640\u064b-\u0652\u0670]"
"""of Arabic, and what lengthens its letters: dictionaries write them, people don't"""

Meant = Counter[str]
"""keys of synsets with weights that sum to 1"""
PHRASE = 0.1
"""how frequent a phrase is believed to be, beside its rarest word"""
UNLISTED, NO_LIST = 0.3, 3e-7
"""the share of a word that is not in a list, beside that of the rarest in it; and where there is no list"""


@dataclass(frozen=True, slots=True)
class Written:
    """How often words of a language are written.

    Attributes:
        shares: words and their shares of all words.
        rare: that of others.
    """

    shares: Mapping[str, float]
    rare: float

    def of(self, text: str) -> float:
        """The share of a word, or an estimate of it for a phrase."""
        least = min((self.shares.get(word, self.rare) for word in text.split()), default=self.rare)
        return PHRASE * least if " " in text else least


Frequencies = Mapping[str, Written]
"""by language"""


def fold(text: str) -> str:
    """The form under which two words are the same: as the tokenizer normalises, with single spaces."""
    lower = re.sub(VOWEL_SIGNS, "", normalize("NFKC", text).lower())
    return " ".join("".join(letter if category(letter)[0] in "LMN" else " " for letter in lower).split())


def shares(weights: Mapping[str, float]) -> Meant:
    """Weights that sum to 1; none if all are 0."""
    total = sum(weights.values())
    return Counter({key: weight / total for key, weight in weights.items()} if total else {})


def frequencies(package: Path, languages: tuple[str, ...]) -> Frequencies:
    """How often words are written, from the larger list that `wordfreq` has of each language."""
    found = {}
    for language in languages:
        lists = [next(package.rglob(f"{size}_{language}.msgpack.gz"), None) for size in ("large", "small")]
        file = next((file for file in lists if file is not None), None)
        shares = {} if file is None else dict(_levels(file))
        found[language] = Written(shares, UNLISTED * min(shares.values()) if shares else NO_LIST)
    return found


def _levels(file: Path) -> Iterator[tuple[str, float]]:
    """Words and shares: the list after the header has the words of -1, -2, … hundredths of a power of ten."""
    for level, words in enumerate(msgpack.unpackb(gzip.decompress(file.read_bytes()))[1:]):
        yield from ((word, 10 ** (-level / 100)) for word in words)


def english(wordnet: WordNet, written: Written) -> dict[str, Meant]:
    """WordNet's words, and all forms of them that are in use."""
    forms = {*wordnet.senses, *(form for form, _ in wordnet.irregular_forms())}
    forms |= {word for word in written.shares if word.isalpha() and word.isascii()}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for form in sorted(forms):
        found[fold(form)].update(shares(wordnet.uses(form)))
    return {form: shares(uses) for form, uses in found.items() if uses}


def multilingual(wordnet: WordNet, language: str) -> dict[str, Meant]:
    """The words of a language in the Open Multilingual Wordnet; a meaning counts by how often it is used in English."""
    used = dict(zip(wordnet.index, wordnet.used().tolist(), strict=True))
    keys: dict[str, set[str]] = defaultdict(set)
    for key, word in _pairs(language):
        keys[fold(word)].add(key)
    return {word: shares({key: used[key] for key in sorted(keys[word]) if key in used}) for word in sorted(keys)}


def words_of(language: str, keys: Sequence[str]) -> dict[str, str]:
    """The first word of a language for each of these meanings that has one."""
    wanted, found = set(keys), dict[str, str]()
    for key, word in _pairs(language):
        if key in wanted:
            found.setdefault(key, word)
    return found


def _pairs(language: str) -> Iterator[tuple[str, str]]:
    for path in sorted((SHARED / "omw").glob("*.tab.gz")):
        if re.fullmatch(rf"(\w+-)?{language}\d?", path.name.removesuffix(".tab.gz")):
            yield from _rows(path)


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            key, kind, word = (*line.rstrip("\n").split("\t"), "", "")[:3]
            if kind.endswith("lemma") and re.fullmatch(r"\d{8}-[nvars]", key):
                yield key.replace("s", "a"), word.replace("_", " ")


def chinese(package: Path, wordnet: WordNet) -> dict[str, Meant]:
    """The words of CC-CEDICT that it explains by words of WordNet; earlier explanations count more."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    file = next(package.rglob("cedict_1_0_ts_utf-8_mdbg.txt.gz"))
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        if not line.startswith("#"):
            head, _, explained = line.partition("/")
            word = fold(head.split(" ")[1])  # traditional, simplified, [pronunciation]
            for rank, uses in enumerate(_explained(explained, wordnet), 1):
                found[word].update({key: share / rank for key, share in shares(uses).items()})
    return {word: shares(uses) for word, uses in found.items() if uses}


def _explained(text: str, wordnet: WordNet) -> Iterator[Counter[str]]:
    """What each explanation in `man/to wear (a hat); to put on/CL:個/` can mean in English; empty if nothing."""
    for part in re.sub(r"\([^)]*\)|\[[^]]*\]", "", text).split("/"):
        if not part.startswith(("CL:", "surname", "variant", "old variant", "see ", "abbr", "used in")):
            for phrase in filter(None, map(fold, part.split(";"))):
                verb = phrase.startswith("to ")
                words = re.sub(r"^(to be|to|a|an|the) ", "", phrase)
                yield wordnet.uses(words, "a" if phrase.startswith("to be ") else "v" if verb else "nvar")
