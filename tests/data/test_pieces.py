"""Pieces looked up one by one, beside the whole tokenizer."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Whole

from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.data.pieces import Pieces
from tuwen.data.tokens import FEW, Tokenizer
from tuwen.demo import PHOTO, PICTOGRAMS, packaged_bundles
from tuwen.errors import BundleInvalid

TEXTS = (
    "",
    "a dog on the grass",
    "一只狗在草地上",
    "Ein  Hund! ",
    "ÀÉ ﬁ ½ \u200b",
    "😀 und 😀😀",
    "犬 고양이 кошка",
    "x" * 150,
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(packaged_bundles()[PHOTO], None)


def drawn(vocabulary: list[str], count: int) -> list[str]:
    """Texts of pieces that need not fit each other, and of letters of many scripts, known or not."""
    draw = random.Random(0)
    of_pieces = ["".join(draw.choices(vocabulary, k=draw.randint(1, 6))).replace("▁", " ") for _ in range(count)]
    scripts = (
        range(0x20, 0x250),
        range(0x370, 0x600),
        range(0x3040, 0x3100),
        range(0x4E00, 0x9FFF),
        range(0x1F300, 0x1F700),
    )
    return of_pieces + [
        "".join(chr(draw.choice(draw.choice(scripts))) for _ in range(draw.randint(1, 25))) for _ in range(count)
    ]


def test_a_few_texts_are_divided_as_by_the_whole_tokenizer(bundle: Bundle, tmp_path: Path) -> None:
    whole = Whole.from_file(str(bundle.tokenizer))
    vocabulary = [piece for piece, _ in json.loads(bundle.tokenizer.read_bytes())["model"]["vocab"]]
    for _ in ("made", "opened again"):
        pieces = Pieces.of(bundle.tokenizer, tmp_path / "pieces")
        assert pieces is not None
        texts = [*TEXTS, *drawn(vocabulary, 300)]
        for start in range(0, len(texts), FEW):
            part = texts[start : start + FEW]
            assert pieces.encode(part) == [whole.encode(text).ids for text in part]


def test_tokens_are_the_same_with_a_cache(bundle: Bundle, tmp_path: Path) -> None:
    spec = bundle.manifest.text
    kept, loaded = Tokenizer(bundle.tokenizer, spec, tmp_path), Tokenizer(bundle.tokenizer, spec)
    for texts in (TEXTS[:FEW], TEXTS[1:2], [*TEXTS, *TEXTS], TEXTS[:2], ["long text " * 200]):
        few, many = kept.to_tokens(texts), loaded.to_tokens(texts)
        np.testing.assert_array_equal(few.ids, many.ids)
        np.testing.assert_array_equal(few.lengths, many.lengths)
        assert few.truncated == many.truncated


def test_other_tokenizers_are_loaded_whole(tmp_path: Path) -> None:
    other = read_bundle(packaged_bundles()[PICTOGRAMS], None)
    for _ in range(2):
        assert Pieces.of(other.tokenizer, tmp_path / "pieces") is None
    tokens = Tokenizer(other.tokenizer, other.manifest.text, tmp_path).to_tokens(["a dog"])
    np.testing.assert_array_equal(tokens.ids, Tokenizer(other.tokenizer, other.manifest.text).to_tokens(["a dog"]).ids)


def test_another_end_than_the_manifest_says(bundle: Bundle, tmp_path: Path) -> None:
    spec = bundle.manifest.text.model_copy(update={"end_id": 7})
    with pytest.raises(BundleInvalid) as caught:
        Tokenizer(bundle.tokenizer, spec, tmp_path).to_tokens(["a dog"])
    assert caught.value.where == bundle.tokenizer


@pytest.mark.parametrize("name", ["letters.npy", "scores.npy"])
def test_damaged_pieces_are_not_used(bundle: Bundle, tmp_path: Path, name: str) -> None:
    assert Pieces.of(bundle.tokenizer, tmp_path / "pieces") is not None
    (tmp_path / "pieces" / name).write_bytes(b"")
    assert Pieces.of(bundle.tokenizer, tmp_path / "pieces") is None


def test_a_cache_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tokens = Tokenizer(bundle.tokenizer, bundle.manifest.text, tmp_path / "file").to_tokens(["a dog"])
    np.testing.assert_array_equal(
        tokens.ids, Tokenizer(bundle.tokenizer, bundle.manifest.text).to_tokens(["a dog"]).ids
    )
