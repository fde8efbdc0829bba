"""The tokenizer: a Unigram model whose tokens are the lexicon's words and phrases, as one `tokenizer.json`.

Marks stand around each written word: `▁hot▁▁dog▁`. Short words and phrases are tokens with their marks, and match as a
whole; longer words are tokens without, and so are found in compounds and before endings too. Every single character is
a token without a meaning, which costs more than it would in a word: the segmentation with the fewest and longest known
parts wins. Chinese and Japanese words, which have no marks, cost as much as they are rare.
"""

import math
import re

from recipes.photo.dictionaries import VOWEL_SIGNS, Frequencies
from recipes.photo.lexicon import Lexicon
from tokenizers import Regex, Tokenizer, models, normalizers, processors

UNKNOWN, START, END, MARK = "<unk>", "<s>", "</s>", "▁"
UNKNOWN_ID, START_ID, END_ID, MARK_ID = range(4)
CONTEXT = 128
"""the most tokens of a text"""
WHOLE, WORD, CHARACTER = -4.0, -10.0, -6.0
"""log probabilities of a token with marks, of a word without, and of a character that is not in one"""
ENDING = 2
"""a word is not kept if a shorter one with the same meanings is found in it, and no more letters than this are left"""
FREE_FROM = {"alphabet": 4, "arabic": 3, "indic": 3, "hangul": 2, "cjk": 1, "thai": 2}
"""words of so many letters are found within longer ones"""
_SCRIPTS = {
    "arabic": re.compile(r"[\u0600-\u06ff]"),
    "indic": re.compile(r"[\u0900-\u097f]"),
    "thai": re.compile(r"[\u0e00-\u0e7f]"),
    "hangul": re.compile(r"[\uac00-\ud7af]"),
    "cjk": re.compile(r"[\u3040-\u30ff\u3400-\u9fff]"),
}


def make_tokenizer(lexicon: Lexicon, frequencies: Frequencies) -> tuple[Tokenizer, list[str]]:
    """The tokenizer, and the word that each of its tokens stands for ("" for none), by id.

    Words that it finds anyway, as another word and an ending, are left out.
    """
    spared = {word for word in lexicon if _shorter(word, lexicon)}
    few = {word: senses for word, senses in lexicon.items() if word not in spared}
    tokenizer, words = _tokenizer(few, lexicon, frequencies)
    order = sorted(spared)
    for word, encoding in zip(order, tokenizer.encode_batch(order), strict=True):
        found = [words[token] for token in encoding.ids if words[token]]
        if len(found) != 1 or lexicon[found[0]] != lexicon[word]:
            spared.remove(word)
    return _tokenizer({word: senses for word, senses in lexicon.items() if word not in spared}, lexicon, frequencies)


def _shorter(word: str, lexicon: Lexicon) -> bool:
    """Whether the word without its last letters is a token without marks that means the same."""
    shorter = (word[:-letters] for letters in range(1, ENDING + 1))
    return any(written(part) == part and lexicon.get(part) == lexicon[word] for part in shorter if part)


def _tokenizer(lexicon: Lexicon, every: Lexicon, frequencies: Frequencies) -> tuple[Tokenizer, list[str]]:
    def rarity(word: str) -> float:
        return math.log(max(frequencies[language].of(word) for language in ("zh", "ja")))

    tokens: dict[str, tuple[float, str]] = {}
    for word in sorted(lexicon):
        token = written(word)
        unmarked = rarity(word) if _SCRIPTS["cjk"].search(word) else WORD
        tokens[token] = (WHOLE if token[0] == MARK else unmarked, word)
    for letter in sorted({letter for word in every for letter in word}):
        if letter not in tokens and letter != " ":
            tokens[letter] = (rarity(letter) if _SCRIPTS["cjk"].search(letter) else CHARACTER, "")
    special = [(UNKNOWN, 0.0), (START, 0.0), (END, 0.0), (MARK, 0.0)]
    vocabulary = special + [(token, round(score, 1)) for token, (score, _) in tokens.items()]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=UNKNOWN_ID, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(VOWEL_SIGNS), ""),
            normalizers.Replace(Regex(r"[^\p{L}\p{M}\p{N}]+"), MARK * 2),
            normalizers.Replace(Regex(rf"^{MARK}*"), MARK),
            normalizers.Replace(Regex(rf"{MARK}*$"), MARK),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, START_ID), (END, END_ID)]
    )
    return tokenizer, [""] * len(special) + [word for _, word in tokens.values()]


def written(word: str) -> str:
    """A word as the token that it is: with marks around it, unless it may stand within a longer one."""
    script = next((name for name, letters in _SCRIPTS.items() if letters.search(word)), "alphabet")
    if " " not in word and len(word) >= FREE_FROM[script]:
        return word
    return MARK + word.replace(" ", MARK * 2) + MARK
