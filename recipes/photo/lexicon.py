"""Words and phrases of 18 languages, and what each can mean, in synsets of WordNet.

A string may be a word of several languages, and a form of several words: it means what it means in the language in
which it is written most, and what the word means of which it is the form, if that word is more frequent.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recipes.photo.dictionaries import Frequencies, Meant, Written, chinese, english, fold, multilingual, shares
from recipes.photo.meanings import class_keys, class_names
from recipes.photo.wordnet import WordNet

LANGUAGES = ("en", "zh", "ja", "ko", "fr", "de", "es", "it", "pt", "nl", "pl", "ru", "ar", "hi", "th", "tr", "vi", "id")
FUNCTION_WORDS = Path(__file__).with_name("function_words.txt")
FORMS = Path(__file__).with_name("forms.txt")
SENSES = 3
"""the most meanings of a word that are kept"""
ENGLISH = 3.0
"""how much more likely a text is English than in another language"""
NAMED = 3.0
"""what a class counts beside the meanings of its name"""
IN_USE = 3e-8
"""inflected forms are taken from words at least as frequent"""
STEM = 3
"""letters that stand before an ending at least"""
WORDS = 340_000
"""how many words and phrases are kept: the most frequent"""
SEEN = 100
"""how much more frequent words are taken to be that can mean a class"""
PARTS = 3
"""a phrase has so many words at most"""
ISOLATING = ("zh", "ja", "ko", "ar", "hi", "th", "vi", "id")
"""languages whose phrases may begin with a function word"""

Lexicon = Mapping[str, dict[str, float]]
"""a text to keys of synsets with weights that sum to 1; a function word has none"""


def read_lexicon(wordnet: WordNet, written: Frequencies, cedict: Path) -> tuple[Lexicon, NDArray[np.float64]]:
    """The most frequent strings with their most likely meanings, and (synsets,) how much each meaning is needed.

    A meaning is needed by the words that have it, a word by the root of its frequency: rare things are asked for, too.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    frequent: dict[str, float] = defaultdict(float)
    for language in LANGUAGES:
        often = written[language]
        for word, meant in _words(language, wordnet, often, cedict).items():
            share = often.of(word)
            frequent[word] = max(frequent[word], share)
            weight = share * (ENGLISH if language == "en" else 1)
            found[word].update({key: weight * part for key, part in meant.items()})
    lexicon = {word: shares(meant) for word, meant in found.items()}
    for word, key in _named():
        lexicon.setdefault(word, Counter())[key] += NAMED
        frequent[word] = 1.0
    known = [word for word in sorted(lexicon) if word and word.count(" ") < PARTS and lexicon[word]]
    classes = set(class_keys())
    rank = {word: -frequent[word] * (1 if classes.isdisjoint(lexicon[word]) else SEEN) for word in known}
    best = sorted(known, key=rank.__getitem__)[:WORDS]
    kept = {word: _kept(lexicon[word]) for word in best}
    needed = np.zeros(len(wordnet.synsets))
    for word, senses in kept.items():
        for key, part in senses.items():
            needed[wordnet.index[key]] += frequent[word] ** 0.5 * part
    return kept | {fold(word): {} for words in function_words().values() for word in words}, needed


def _words(language: str, wordnet: WordNet, often: Written, cedict: Path) -> dict[str, Meant]:
    words = multilingual(wordnet, language)
    if language == "en":
        words |= english(wordnet, often)
    if language == "zh":
        for word, meant in chinese(cedict, wordnet).items():
            words[word] = shares(words.get(word, Counter()) + meant)
    if language not in ISOLATING:  # "le chien" means "chien"
        little = {fold(word) for word in function_words().get(language, [])}
        words = {word: meant for word, meant in words.items() if " " not in word or little.isdisjoint(_ends(word))}
    return {**words, **_forms(words, often, forms().get(language, []))}


def _ends(phrase: str) -> tuple[str, str]:
    first, *_, last = phrase.split()
    return first, last


def _forms(words: Mapping[str, Meant], often: Written, rules: list[tuple[str, str]]) -> dict[str, Meant]:
    """Forms in use of a language's words; each may be a word of its own and a form of several others."""
    found = {}
    for form, share in often.shares.items():
        if share >= IN_USE and form.isalpha():
            stems = [(form.removesuffix(old), new) for old, new in rules if form.endswith(old)]
            lemmas = {stem + new for stem, new in stems if len(stem) >= STEM and stem + new in words}
            meant: Counter[str] = Counter()
            for word, weight in [(form, share), *((lemma, often.of(lemma)) for lemma in sorted(lemmas))]:
                meant.update({key: weight * part for key, part in words.get(word, {}).items()})
            if lemmas:
                found[form] = shares(meant)
    return found


def _named() -> Iterator[tuple[str, str]]:
    """The names of ImageNet's classes, and the keys of their synsets."""
    for language in ("en", "cn", "jp", "it", "ar"):
        for key, names in zip(class_keys(), class_names(language), strict=True):
            for name in re.split(r"[，,、;]|[（(].*?[)）]", names):
                if fold(name):
                    yield fold(name), key


def function_words() -> dict[str, list[str]]:
    """Words that carry no picture, by language."""
    return {language: words.split() for language, words in _lists(FUNCTION_WORDS)}


def forms() -> dict[str, list[tuple[str, str]]]:
    """Endings of inflected words and what the word itself ends in instead, by language."""
    pairs = ((language, [pair.split("=") for pair in rules.split()]) for language, rules in _lists(FORMS))
    return {language: [(old, new) for old, new in rules] for language, rules in pairs}


def _lists(file: Path) -> Iterator[tuple[str, str]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            language, _, words = line.partition(": ")
            yield language, words


def _kept(senses: Counter[str]) -> dict[str, float]:
    best = sorted(senses.items(), key=lambda sense: (-sense[1], sense[0]))[:SENSES]
    total = sum(weight for _, weight in best)
    return {key: weight / total for key, weight in best if weight > 0.04 * total}
