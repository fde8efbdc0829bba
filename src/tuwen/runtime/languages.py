"""Notes on query texts: scripts that the model was not trained on, and texts that are too long for it.

Scripts are found by the Unicode names of letters; languages that share a script are not told apart.
"""

import unicodedata
from collections.abc import Sequence

from tuwen.runtime.encoder import Encoder

_LANGUAGES = {
    "Latin": "af ay az br bs ca ceb co cs cy da de en eo es et eu fi fil fo fr fy ga gd gl gn ha haw hr ht hu id "
    "ig is it jv kk kl ku la lb lt lv mg mi ms mt nb nl nn no nso oc om pl pt qu rm rn ro rw sh sk sl sm sn so sq "
    "sr st su sv sw tk tl tn to tr ts uz vi vo wo xh yo zu",
    "Cyrillic": "ab av ba be bg ce cv kk ky mk mn os ru sah sr tg tt uk uz",
    "Arabic": "ar arz ckb fa ks ps sd ug ur ku ha",
    "Han": "ja yue zh",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Hangul": "ko",
    "Bopomofo": "yue zh",
    "Devanagari": "bh hi kok mai mr ne sa",
    "Bengali": "as bn",
    "Thai": "th",
    "Greek": "el grc",
    "Hebrew": "he iw yi",
    "Armenian": "hy",
    "Georgian": "ka",
    "Ethiopic": "am ti",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Oriya": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Lao": "lo",
    "Khmer": "km",
    "Myanmar": "my",
    "Tibetan": "bo dz",
    "Mongolian": "mn",
    "Thaana": "dv",
    "Cherokee": "chr",
}
_BY_NAME = {"CJK": "Han", **{script.upper(): script for script in _LANGUAGES}}
_WIDTHS = ("FULLWIDTH ", "HALFWIDTH ")
_KNOWN = frozenset(" ".join(_LANGUAGES.values()).split())


def unknown_scripts(text: str, languages: Sequence[str]) -> tuple[str, ...]:
    """The scripts in a text that none of the languages is written in, in the order they appear.

    Only letters count: digits, punctuation, symbols and emoji belong to no script.

    Args:
        text: anything.
        languages: ISO 639 codes, e.g. `zh` or `zh-Hans`. If there are none, or one is unknown here, the result is
            empty.
    """
    codes = {code.lower().replace("_", "-").split("-")[0] for code in languages}
    if not codes or not codes <= _KNOWN:
        return ()
    found = dict.fromkeys(script for script in map(_script, text) if script)
    return tuple(script for script in found if not codes & set(_LANGUAGES[script].split()))


def _script(letter: str) -> str | None:
    """The script of a letter; None for other characters, and for unknown scripts."""
    if not unicodedata.category(letter).startswith("L"):
        return None
    name = unicodedata.name(letter, "")
    for width in _WIDTHS:
        name = name.removeprefix(width)
    return _BY_NAME.get(name.split(" ")[0])


def text_notes(texts: Sequence[str], encoder: Encoder) -> list[str]:
    """A line for each reason why texts may give poor results with a model."""
    return [*_script_notes(texts, encoder), *_length_notes(texts, encoder)]


def _script_notes(texts: Sequence[str], encoder: Encoder) -> list[str]:
    languages = encoder.text_spec.languages
    if not languages:
        return []
    scripts = sorted({script for text in texts for script in unknown_scripts(text, languages)})
    if not scripts:
        return []
    return [
        f"the model {encoder.name} was not trained on {', '.join(scripts)} script (its languages: "
        f"{', '.join(languages)}): expect poor results"
    ]


def _length_notes(texts: Sequence[str], encoder: Encoder) -> list[str]:
    truncated = encoder.to_tokens(texts).truncated if texts else 0
    if not truncated:
        return []
    which = "the text is" if len(texts) == 1 else f"{truncated} of {len(texts)} texts are"
    return [f"{which} longer than the model's {encoder.text_spec.context_length} tokens: the end is ignored"]
