"""What is done to a text before the tokenizer, as each reference does it.

Knows Python's string methods, ftfy and HTML entities: what `tokenizer.json` alone cannot say. Python's `lower`
looks at the neighbours (a final sigma), a tokenizer's normaliser does not. Does not know vocabularies.
"""

import html
import string

from tuwen.bundle.manifest import Cleaning

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, cleaning: Cleaning) -> str:
    """The text as the tokenizer is given it. Halves of surrogate pairs, which no tokenizer takes, become U+FFFD."""
    if cleaning.startswith("ftfy"):
        text = _repair(text)
    if cleaning.endswith("canonicalize"):
        text = text.replace("_", " ").translate(_PUNCTUATION).lower()
    if cleaning == "unpunctuated":
        text = text.translate(_PUNCTUATION).lower()
    if cleaning != "none":
        text = " ".join(text.split())
    if cleaning == "ftfy_html":
        text = text.lower()
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _repair(text: str) -> str:
    """Mojibake, curly quotes, ligatures, widths; then HTML entities, twice because the training data had both."""
    import ftfy

    repaired: str = ftfy.fix_text(text)
    return html.unescape(html.unescape(repaired)).strip()
