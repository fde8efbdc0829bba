"""Text preprocessing: texts to tokens, cleaned, tokenized with the bundle's `tokenizer.json`, truncated and padded."""

import html
import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tuwen.bundle.files import cached_sha256
from tuwen.bundle.manifest import Cleaning, TextSpec
from tuwen.data.pieces import Pieces
from tuwen.errors import BundleInvalid
from tuwen.types import Tokens

FEW, SHORT, FEW_CALLS = 8, 1_000, 20
"""texts and characters of a call, and calls, for which the pieces of a large vocabulary are looked up one by one"""
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, cleaning: Cleaning) -> str:
    """Clean a text as the model's reference does before it tokenizes. Unpaired surrogates become U+FFFD."""
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
    """Repair mojibake, curly quotes, ligatures and widths; then unescape HTML twice, as CLIP's reference does."""
    import ftfy

    repaired: str = ftfy.fix_text(text)
    return html.unescape(html.unescape(repaired)).strip()


class Tokenizer:
    """A bundle's tokenizer. Thread-safe."""

    def __init__(self, path: Path | bytes, spec: TextSpec, cache: Path | None = None) -> None:
        """Load `tokenizer.json`, from a file or from its content.

        Args:
            path: the file, or its content.
            spec: how texts are cleaned, truncated and padded.
            cache: where the pieces of large vocabularies are kept; with it, the file is loaded when it is needed.

        Raises:
            BundleInvalid: it cannot be read, or the end token is not the one in the text spec; with a cache, raised
                by `to_tokens`.
        """
        self._path = path
        self._spec = spec
        self._cache = cache
        self._few_left = 0 if cache is None or isinstance(path, bytes) or spec.cleaning == "ftfy_html" else FEW_CALLS
        if cache is None:
            self._whole  # noqa: B018  (loads it)

    def to_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokenize texts as the model's reference does. An empty text is its start and end token.

        Returns:
            ids (n, length), padded as the spec says, their lengths, and how many texts were truncated. A truncated
            text keeps its end token.
        """
        rows = self._encode([clean(text, self._spec.cleaning) for text in texts])
        limit = self._spec.context_length
        kept = [self._truncate(row) if len(row) > limit else row for row in rows]
        longest = max(map(len, kept), default=0)
        length = limit if self._spec.pad_to == "context" else longest
        ids = np.full((len(kept), length), self._spec.pad_id, dtype=np.int64)
        for row, padded in zip(kept, ids, strict=True):
            padded[: len(row)] = row
        lengths = np.array([len(row) for row in kept], dtype=np.int64)
        return Tokens(ids, lengths, truncated=sum(len(row) > limit for row in rows))

    def _truncate(self, row: list[int]) -> list[int]:
        limit = self._spec.context_length
        return row[:limit] if self._spec.end_id is None else [*row[: limit - 1], self._spec.end_id]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self._few_left and len(texts) <= FEW and sum(map(len, texts)) <= SHORT:
            self._few_left -= 1
            if self._pieces is not None:
                return self._pieces.encode(texts)
        self._few_left = 0
        return self._whole.encode(texts)

    @cached_property
    def _pieces(self) -> Pieces | None:
        """The pieces of a large vocabulary; None of another tokenizer."""
        assert self._cache is not None
        assert isinstance(self._path, Path)
        pieces = Pieces.of(self._path, self._cache / "pieces" / cached_sha256(self._path, self._cache))
        if pieces is not None:
            _check_end(pieces.encode([""])[0], self._spec, self._path)
        return pieces

    @cached_property
    def _whole(self) -> "_Whole":
        return _Whole(self._path, self._spec)


class _Whole:
    """A tokenizer of the tokenizers library, with special tokens in texts as the reference reads them."""

    def __init__(self, path: Path | bytes, spec: TextSpec) -> None:
        from tokenizers import Tokenizer as Backend

        name = "tokenizer.json" if isinstance(path, bytes) else path
        try:
            self._backend = Backend.from_buffer(path) if isinstance(path, bytes) else Backend.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            hint = "export or pull the model again"
            raise BundleInvalid(f"{name} cannot be read: {error}; {hint}", where=name, hint=hint) from error
        self._backend.no_padding()
        self._backend.no_truncation()
        self._typed = _TypedTokens(self._special_tokens()) if spec.cleaning == "ftfy_html" else None
        self._backend.encode_special_tokens = self._typed is not None
        _check_end(self._backend.encode("").ids, spec, name)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts))]
        if self._typed is not None:
            for index, text in enumerate(texts):
                if self._typed.may_be_in(text):
                    rows[index] = self._encode_with_typed(text, self._typed)
        return rows

    def _encode_with_typed(self, text: str, typed: "_TypedTokens") -> list[int]:
        """As the reference, where the name of a special token in a text becomes that token."""
        middle: list[int] = []
        for part in typed.split(text):
            middle += [part] if isinstance(part, int) else self._backend.encode(part, add_special_tokens=False).ids
        around = self._backend.encode("").ids
        return [around[0], *middle, around[-1]]

    def _special_tokens(self) -> dict[str, int]:
        added = self._backend.get_added_tokens_decoder()
        return {token.content: index for index, token in added.items() if token.special}


def _check_end(empty: Sequence[int], spec: TextSpec, name: Path | str) -> None:
    """Check how the tokenizer ends an empty text."""
    end = list(empty[-1:])
    if spec.end_id is not None and end != [spec.end_id]:
        hint = "export the model again"
        message = f"{name} ends a text with {end}, but the manifest says end_id = {spec.end_id}; {hint}"
        raise BundleInvalid(message, value=end, where=name, hint=hint)


class _TypedTokens:
    """Finds names of special tokens in a text, as CLIP's reference tokenizer does.

    The reference looks for them before words. But a run of punctuation includes a `<` that follows it, and the rest is
    then no longer a name.
    """

    def __init__(self, special: dict[str, int]) -> None:
        self._special = special
        self._names = re.compile("|".join(map(re.escape, special)))

    def may_be_in(self, text: str) -> bool:
        return bool(self._special) and self._names.search(text) is not None

    def split(self, text: str) -> Iterator[str | int]:
        """The text in order: the ids of special tokens, and the text between them."""
        done = 0
        for match in self._names.finditer(text):
            if match.start() == done or _ends_a_run(text[match.start() - 1]):
                yield text[done : match.start()]
                yield self._special[match[0]]
                done = match.end()
        yield text[done:]


def _ends_a_run(letter: str) -> bool:
    """Whether this character ends a run of punctuation."""
    return letter.isspace() or unicodedata.category(letter)[0] in "LN"
