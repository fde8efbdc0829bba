import json

import pytest

from tuwen.data.vocabularies import (
    bpe_tokenizer_json,
    sentencepiece_tokenizer_json,
    unigram_tokenizer_json,
    wordpiece_tokenizer_json,
)
from tuwen.errors import InvalidInput


def field(number: int, value: bytes) -> bytes:
    """A field of a protobuf message, of fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


def piece(text: str) -> bytes:
    """A sentencepiece piece with score -1.5, and a type that is read over."""
    return field(1, field(1, text.encode()) + b"\x15\x00\x00\xc0\xbf" + b"\x18\x01")


def test_ids_of_a_small_bpe() -> None:
    vocabulary = json.loads(bpe_tokenizer_json(["a b</w>", "d o", "do g</w>"]))["model"]["vocab"]
    assert vocabulary["!"] == 0
    assert vocabulary["!</w>"] == 256
    assert (vocabulary["ab</w>"], vocabulary["dog</w>"]) == (512, 514)
    assert (vocabulary["<start_of_text>"], vocabulary["<end_of_text>"]) == (515, 516)
    assert len(vocabulary) == 517


def test_openai_names_of_the_ends() -> None:
    from tokenizers import Tokenizer

    content = bpe_tokenizer_json(["a b</w>"], start="<|startoftext|>", end="<|endoftext|>")
    assert Tokenizer.from_str(content.decode()).encode("AB").tokens == [
        "<|startoftext|>",
        "ab</w>",
        "<|endoftext|>",
    ]


@pytest.mark.parametrize("merge", ["ab", "a b c", "", " b"])
def test_what_is_no_merge_is_refused(merge: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        bpe_tokenizer_json(["a b</w>", merge])
    assert raised.value.value == merge


def test_a_vocabulary_that_is_not_berts_is_refused() -> None:
    with pytest.raises(InvalidInput) as raised:
        wordpiece_tokenizer_json(["[PAD]", "[CLS]", "[SEP]", "dog"])
    assert raised.value.value == ["[UNK]", "[MASK]"]


def test_a_cased_vocabulary_keeps_case_and_accents() -> None:
    from tokenizers import Tokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Élan", "elan"]
    cased = Tokenizer.from_str(wordpiece_tokenizer_json(vocabulary, lowercase=False).decode())
    uncased = Tokenizer.from_str(wordpiece_tokenizer_json(vocabulary).decode())
    assert cased.encode("Élan").ids == [2, 5, 3]
    assert uncased.encode("Élan").ids == [2, 6, 3]


def test_sentencepiece_ids_are_shifted_by_one() -> None:
    from tokenizers import Tokenizer

    model = b"".join(map(piece, ["<unk>", "<s>", "</s>", "▁dog", "▁cat"]))
    tokenizer = Tokenizer.from_str(unigram_tokenizer_json(model).decode())
    assert tokenizer.encode("cat dog §").ids == [0, 5, 4, 3, 2]
    assert tokenizer.token_to_id("<mask>") == 6
    assert json.loads(tokenizer.to_str())["model"]["vocab"][4] == ["▁dog", -1.5]


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"no model at all",
        piece("▁dog"),
        piece("<unk>")[:-1],
        b"\x0b",
        b"".join(map(piece, ["<s>", "<unk>", "</s>"])),
    ],
)
def test_what_is_no_sentencepiece_model_is_refused(model: bytes) -> None:
    with pytest.raises(InvalidInput):
        unigram_tokenizer_json(model)


def test_sentencepiece_ids_as_the_file_has_them() -> None:
    from tokenizers import Tokenizer

    model = b"".join(map(piece, ["<pad>", "</s>", "<unk>", "▁dog", "▁cat"]))
    tokenizer = Tokenizer.from_str(sentencepiece_tokenizer_json(model).decode())
    assert tokenizer.encode("cat  dog").ids == [4, 3, 1]
    assert tokenizer.encode("§ dog").ids[-2:] == [3, 1]
    with pytest.raises(InvalidInput) as raised:
        sentencepiece_tokenizer_json(b"".join(map(piece, ["<unk>", "▁dog"])))
    assert raised.value.value == ["</s>"]
