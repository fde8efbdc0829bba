"""The vocabulary of a large Unigram tokenizer, kept so that a few texts are tokenized without loading all of it.

The tokenizers library takes a second to load 400,000 pieces. But how a text is divided depends only on the pieces that
are in it, and on the least score of all, from which that of unknown letters follows. So for a few texts, a tokenizer
with these pieces alone gives the same result, once they have been found: pieces are kept sorted, by their lengths.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.files import recall

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENOUGH = 50_000
"""pieces below which a tokenizer is loaded as quickly as its pieces are found"""
_HEAD = "head.json"
_ARRAYS = ("letters", "counts", "ids", "scores")


class Pieces:
    """All pieces of a tokenizer, by length and content; files of a folder, mapped."""

    def __init__(self, head: Mapping[str, Any], folder: Path) -> None:
        """Not for callers: see `of`."""
        self._head = head
        letters, counts, ids, scores = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
        self._ids, self._scores = ids, scores
        self._by_length: list[tuple[int, NDArray[np.bytes_]]] = []
        byte = place = 0
        for length, count in enumerate(counts.tolist()):
            if count:
                part = letters[byte : byte + length * count].view(f"S{length}")
                self._by_length.append((place, part))
            byte, place = byte + length * count, place + count

    @classmethod
    def of(cls, file: Path, folder: Path) -> Self | None:
        """The pieces of a `tokenizer.json`, from a folder, which is made if it does not exist.

        Returns:
            None where the tokenizer is small, of another kind, adds tokens, splits texts by itself or cannot be read;
            or where the folder cannot be written.
        """
        head = recall(folder / _HEAD)
        try:
            if head is None:
                head = _write(file, folder)
            return cls(head, folder) if head else None
        except (OSError, EOFError, ValueError, LookupError, TypeError):  # what is wrong, loading all of it tells
            return None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, with those that stand around every text."""
        least: list[tuple[str, float]] = [("", self._head["least"])]  # no text contains it
        normalised = _tokenizer(self._head, least).normalizer
        found = self._found({normalised.normalize_str(text) for text in texts} if normalised else set(texts))
        small = _tokenizer(self._head, least + [(piece, score) for piece, (_, score) in found.items()])
        ids = [self._head["unknown"], self._head["unknown"], *(number for number, _ in found.values())]
        first, last = self._head["first"], self._head["last"]
        encoded = small.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[*first, *(ids[number] for number in text.ids), *last] for text in encoded]

    def _found(self, texts: set[str]) -> dict[str, tuple[int, float]]:
        """The pieces in some texts, with their ids and scores."""
        longest = self._head["longest"]
        parts = {text[a : a + size] for text in texts for a in range(len(text)) for size in range(1, longest + 1)}
        wanted: dict[int, list[bytes]] = {}
        for part in sorted(part.encode("utf-8") for part in parts):
            wanted.setdefault(len(part), []).append(part)
        found: dict[str, tuple[int, float]] = {}
        for first, pieces in self._by_length:
            keys = np.array(wanted.get(pieces.dtype.itemsize, []), dtype=pieces.dtype)
            places = np.minimum(np.searchsorted(pieces, keys), len(pieces) - 1)
            for place in places[pieces[places] == keys].tolist():
                piece = pieces[place].decode("utf-8")
                found[piece] = int(self._ids[first + place]), float(self._scores[first + place])
        return found


def _write(file: Path, folder: Path) -> dict[str, Any]:
    """Write the pieces, and return what else there is to know; nothing where a tokenizer is not of this kind."""
    content = file.read_bytes()
    document = json.loads(content) if b'"Unigram"' in content else {}
    head: dict[str, Any] = {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        if _is_plain(document):
            head, arrays = _sorted(document)
            for name, array in zip(_ARRAYS, arrays, strict=True):
                np.save(aside / f"{name}.npy", array)
        (aside / _HEAD).write_text(json.dumps(head), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        aside.replace(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return head


def _is_plain(document: Mapping[str, Any]) -> bool:
    """Whether ids follow from pieces alone: no tokens are added, texts are not split, and bytes are no pieces."""
    model, around = document.get("model") or {}, document.get("post_processor")
    return (
        model.get("type") == "Unigram"
        and len(model["vocab"]) > ENOUGH
        and model.get("unk_id") is not None
        and not model.get("byte_fallback")
        and not document.get("added_tokens")
        and document.get("pre_tokenizer") is None
        and (around is None or around["type"] == "TemplateProcessing")
        and not any("\0" in piece for piece, _ in model["vocab"])  # numpy drops it at the end of a text
    )


def _sorted(document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[NDArray[Any], ...]]:
    """Facts about the tokenizer, and the arrays of its pieces, sorted by length and content."""
    model = document["model"]
    first, last = _around(document.get("post_processor"))
    scores = np.array([score for _, score in model["vocab"]], np.float64)
    head = {
        "normalizer": document.get("normalizer"),
        "unknown": model["unk_id"],
        "least": float(scores.min()),
        "longest": max(len(piece) for piece, _ in model["vocab"]),
        "first": first,
        "last": last,
    }
    pieces = np.array([piece.encode("utf-8") for piece, _ in model["vocab"]])
    lengths = np.strings.str_len(pieces)
    order = np.argsort(pieces, kind="stable")
    order = order[np.argsort(lengths[order], kind="stable")].astype(np.int32)
    letters = np.frombuffer(b"".join(pieces[order].tolist()), np.uint8)
    return head, (letters, np.bincount(lengths), order, scores[order])


def _around(template: Mapping[str, Any] | None) -> tuple[list[int], list[int]]:
    """The ids before and after every text."""
    if template is None:
        return [], []
    parts = template["single"]
    middle = next(place for place, part in enumerate(parts) if "Sequence" in part)
    names = [part["SpecialToken"]["id"] if "SpecialToken" in part else None for part in parts]
    ids = [template["special_tokens"][name]["ids"] if name else [] for name in names]
    return list(chain(*ids[:middle])), list(chain(*ids[middle:]))


def _tokenizer(head: Mapping[str, Any], pieces: Sequence[tuple[str, float]]) -> "Tokenizer":
    """A tokenizer of these pieces, after one for what is unknown."""
    from tokenizers import Tokenizer

    vocabulary = [["", head["least"]], *map(list, pieces)]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}
    document = {"version": "1.0", "normalizer": head["normalizer"], "model": model}
    return Tokenizer.from_str(json.dumps(document))
