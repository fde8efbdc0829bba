"""Words and phrases of 18 languages, and what each can mean, in synsets of WordNet.

Sources are the Open Multilingual Wordnet with its extracts of Wiktionary and the CLDR, WordNet itself, and the names
of ImageNet's classes in five languages.
"""

import gzip
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from recipes.photo.meanings import WordVectors, class_keys, class_names
from recipes.photo.sources import SHARED
from recipes.photo.wordnet import WordNet

LANGUAGES = ("en", "zh", "ja", "ko", "fr", "de", "es", "it", "pt", "nl", "pl", "ru", "ar", "hi", "th", "tr", "vi", "id")
FUNCTION_WORDS = Path(__file__).with_name("function_words.txt")
SENSES = 3
"""the most meanings of a word that are kept"""
ENGLISH = 2.0
"""what an English word's meanings count beside those of the same string in another language"""
NAMED = 3.0
"""what a class counts beside the meanings of its name"""
ENDINGS = {
    "fr": ("er", "ir", "e"),
    "de": ("en", "n", "e"),
    "es": ("ar", "er", "ir", "o", "a", "e"),
    "it": ("are", "ere", "ire", "o", "a", "e"),
    "pt": ("ar", "er", "ir", "o", "a", "e", "ão"),
    "nl": ("en",),
    "pl": ("ać", "ić", "yć", "a", "o", "e", "y", "ek"),
    "ru": ("ать", "ять", "ить", "еть", "а", "я", "о", "е", "ь", "й", "ый", "ий", "ая"),
    "tr": ("mak", "mek"),
}
"""endings of lemmas that change; what stands before them is found before any ending"""
STEM = 4
"""letters that a stem has at least"""
FORMS_AMONG = 60_000
"""inflected forms are taken from so many most frequent English words"""
MEANINGS = 24_000
"""how many meanings have a vector; words that have none of these are left out"""
PARTS = 3
"""a phrase has so many words at most"""

Lexicon = Mapping[str, dict[str, float]]
"""a text to keys of synsets with weights that sum to 1; a function word has none"""


def fold(text: str) -> str:
    """The form under which two words are the same: as the tokenizer normalises, with single spaces."""
    lower = unicodedata.normalize("NFKC", text).lower()
    return " ".join(re.sub(r"[^\w\s]|_", " ", lower).split())


def read_lexicon(wordnet: WordNet, vectors: WordVectors) -> Lexicon:
    """Every string with its most likely meanings."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for word, senses in wordnet.senses.items():
        found[fold(word)].update({key: ENGLISH * share for key, share in senses})
    used = dict(zip(wordnet.index, wordnet.used().tolist(), strict=True))
    for language in LANGUAGES:
        for word, keys in _words(language).items():
            uses = {key: used[key] for key in keys if key in used}
            found[word].update({key: use / sum(uses.values()) for key, use in uses.items()})
    for word, key in _named():
        found[word][key] += NAMED
    lexicon = {word: _kept(senses) for word, senses in found.items() if word and word.count(" ") < PARTS}
    lexicon |= _forms(wordnet, vectors, lexicon)
    lexicon |= _stems(lexicon)
    lexicon |= {fold(word): {} for words in function_words().values() for word in words}
    return lexicon


def _named() -> Iterator[tuple[str, str]]:
    """The names of ImageNet's classes, and the keys of their synsets."""
    for language in ("en", "cn", "jp", "it", "ar"):
        for key, names in zip(class_keys(), class_names(language), strict=True):
            for name in re.split(r"[，,、;]|[（(].*?[)）]", names):
                if fold(name):
                    yield fold(name), key


def common_meanings(lexicon: Lexicon, wordnet: WordNet) -> list[int]:
    """The rows of the `MEANINGS` synsets that words mean most: those of classes, then by use and by number of words."""
    found = np.log(wordnet.used())
    for senses in lexicon.values():
        for key, share in senses.items():
            found[wordnet.index[key]] += share
    found[[wordnet.index[key] for key in class_keys()]] = np.inf
    return sorted(np.argsort(-found, kind="stable")[:MEANINGS].tolist())


def with_meanings(lexicon: Lexicon, wordnet: WordNet, kept: list[int]) -> Lexicon:
    """The words that have one of these meanings, and function words."""
    keys = {wordnet.synsets[row].key for row in kept}
    return {word: senses for word, senses in lexicon.items() if not senses or not keys.isdisjoint(senses)}


def function_words() -> dict[str, list[str]]:
    """Words that carry no picture, by language."""
    lines = FUNCTION_WORDS.read_text(encoding="utf-8").splitlines()
    parts = (line.partition(": ") for line in lines if not line.startswith("#"))
    return {language: words.split() for language, _, words in parts}


def _words(language: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((SHARED / "omw").glob("*.tab.gz")):
        if re.fullmatch(rf"(\w+-)?{language}\d?", path.name.removesuffix(".tab.gz")):
            for key, word in _rows(path):
                found[fold(word)].add(key)
    return found


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            key, kind, word = (*line.rstrip("\n").split("\t"), "", "")[:3]
            if kind.endswith("lemma") and re.fullmatch(r"\d{8}-[nvars]", key):
                yield key.replace("s", "a"), word.replace("_", " ")


def _kept(senses: Counter[str]) -> dict[str, float]:
    best = sorted(senses.items(), key=lambda sense: -sense[1])[:SENSES]
    total = sum(weight for _, weight in best)
    return {key: weight / total for key, weight in best if weight > 0.04 * total}


def _forms(wordnet: WordNet, vectors: WordVectors, known: Lexicon) -> dict[str, dict[str, float]]:
    """Inflected forms of English words that are in use, with the meanings of their lemma."""
    frequent = [word for word, rank in vectors.rank.items() if rank < FORMS_AMONG and word.isalpha()]
    forms = {form: lemmas[0] for form in frequent if form not in known and (lemmas := wordnet.lemmas(form))}
    forms |= {form: lemma for form, lemma in wordnet.irregular_forms() if form not in known and lemma in known}
    return {fold(form): dict(known[fold(lemma)]) for form, lemma in forms.items() if fold(lemma) in known}


def _stems(known: Lexicon) -> dict[str, dict[str, float]]:
    """Beginnings of inflected words, with the meanings of the shortest word that begins so."""
    stems: dict[str, dict[str, float]] = {}
    for language, endings in ENDINGS.items():
        for word in sorted(_words(language), key=len):
            ending = max((ending for ending in endings if word.endswith(ending)), key=len, default="")
            stem = word.removesuffix(ending)
            if ending and len(stem) >= STEM and " " not in word and word in known and stem not in known:
                stems.setdefault(stem, known[word])
    return stems
