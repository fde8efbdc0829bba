import pytest

from tuwen.data.tokens import clean

from .material import TEXTS


@pytest.mark.parity
@pytest.mark.parametrize(
    ("cleaning", "reference"),
    [
        ("ftfy_html", "_clean_lower"),
        ("ftfy_html_cased", "_clean_whitespace"),
        ("ftfy_canonicalize", "_clean_canonicalize"),
        ("canonicalize", "canonicalize_text"),
    ],
)
def test_equals_open_clip(importable, cleaning, reference: str) -> None:
    import open_clip.tokenizer

    theirs = getattr(open_clip.tokenizer, reference)
    texts = [text for text in TEXTS if "\ud83d" not in text]  # half a pair, which the references let through
    assert [clean(text, cleaning) for text in texts] == [theirs(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (" Salt &amp;amp;\tPEPPER ", "salt & pepper"),
        ("ΟΔΟΣ", "οδος"),
        ("cafÃ©", "café"),
        ("“ﬁve”　Ａ", '"five" a'),
        ("", ""),
    ],
)
def test_as_clip(text: str, cleaned: str) -> None:
    assert clean(text, "ftfy_html") == cleaned


def test_none_changes_nothing_but_halves_of_pairs() -> None:
    assert clean(" A &amp; B_c “d” ", "none") == " A &amp; B_c “d” "
    assert clean("a\ud83db \ud83d\ude00", "none") == "a\ufffdb \U0001f600"


def test_unpunctuated_takes_an_underscore_away() -> None:
    assert clean("  Snake_Case, \n(ΟΔΟΣ) ", "unpunctuated") == "snakecase οδος"
    assert clean("Snake_Case", "canonicalize") == "snake case"
