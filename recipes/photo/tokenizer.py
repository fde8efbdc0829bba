"""The tokenizer: a Unigram model whose tokens are the lexicon's words and phrases, as one `tokenizer.json`.

Marks stand around each written word: `▁hot▁▁dog▁`. Short words and phrases are tokens with their marks, and match as a
whole; longer words are tokens without, and so are found in compounds and before endings too. Every single character is
a token without a meaning, which costs more than it would in a word: the segmentation with the fewest and longest known
parts wins, in Chinese and Japanese as well.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from recipes.photo.lexicon import Lexicon
from tokenizers import Regex, Tokenizer, models, normalizers, processors

UNKNOWN, START, END, MARK = "<unk>", "<s>", "</s>", "▁"
UNKNOWN_ID, START_ID, END_ID, MARK_ID = range(4)
CONTEXT = 128
"""the most tokens of a text"""
WHOLE, WORD, CHARACTER = -4.0, -10.0, -4.5
"""log probabilities of a token with marks, of a word without, and of a character that is not in one"""
FREQUENT = 2.0
"""how much more probable the most frequent Chinese words are than others"""
FREE_FROM = {"alphabet": 4, "arabic": 3, "indic": 3, "hangul": 2, "cjk": 1, "thai": 2}
"""words of so many letters are found within longer ones"""
_SCRIPTS = {
    "arabic": re.compile(r"[\u0600-\u06ff]"),
    "indic": re.compile(r"[\u0900-\u097f]"),
    "thai": re.compile(r"[\u0e00-\u0e7f]"),
    "hangul": re.compile(r"[\uac00-\ud7af]"),
    "cjk": re.compile(r"[\u3040-\u30ff\u3400-\u9fff]"),
}


def make_tokenizer(lexicon: Lexicon, frequencies: Mapping[str, int]) -> tuple[Tokenizer, list[str]]:
    """The tokenizer, and the word that each of its tokens stands for ("" for none), by id."""
    most = math.log(max(frequencies.values(), default=1) + 2)
    tokens: dict[str, tuple[float, str]] = {}
    for word in sorted(lexicon):
        common = FREQUENT * math.log(frequencies.get(word, 0) + 1) / most
        token = written(word)
        tokens[token] = ((WHOLE if token[0] == MARK else WORD) + common, word)
    letters = Counter(letter for word in lexicon for letter in word)
    for letter in sorted(letters):
        if letter not in tokens and letter != " ":
            tokens[letter] = (CHARACTER, "")
    special = [(UNKNOWN, 0.0), (START, 0.0), (END, 0.0), (MARK, 0.0)]
    vocabulary = special + [(token, round(score, 2)) for token, (score, _) in tokens.items()]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=UNKNOWN_ID, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
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


def chinese_frequencies(package: Path) -> dict[str, int]:
    """How often Chinese words are written, from the dictionary of `jieba`."""
    lines = next(package.rglob("jieba/dict.txt")).read_text(encoding="utf-8").splitlines()
    return {word: int(count) for word, count, *_ in map(str.split, lines)}
