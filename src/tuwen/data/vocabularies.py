"""Converts vocabularies to `tokenizer.json`: CLIP's merges, BERT's word pieces, sentencepiece models.

Each conversion gives the ids of its reference tokenizer, and needs only the package `tokenizers`.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tuwen.errors import InvalidInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Texts are lower case by then, but the reference's pattern also ignores case: the long s counts as an s; and U+0345,
# which is not a letter although its capital is one, matches nothing and is dropped.
_CLIP_WORDS = r"'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{0345}]+"
_SPACE = "▁"


def bpe_tokenizer_json(merges: Sequence[str], *, start: str = "<start_of_text>", end: str = "<end_of_text>") -> bytes:
    """CLIP's byte-level BPE, as OpenAI CLIP and open_clip's `SimpleTokenizer` number it.

    Args:
        merges: the pairs to merge, in order, each as two tokens separated by a space. OpenAI's file has a header
            line, and more merges than the 48,894 that CLIP uses.
        start: the token before a text; its id follows the last merge (49406).
        end: the token after a text (49407).

    Returns:
        The `tokenizer.json` for cleaning `ftfy_html`.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    pairs = [_pair(merge) for merge in merges]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in pairs), start, end]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    names = "|".join(re.escape(name).replace("s", "[sſ]") for name in (start, end))
    words = pre_tokenizers.Split(Regex(f"{names}|{_CLIP_WORDS}"), behavior="removed", invert=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, byte_level])
    return _serialized(tokenizer, special=(start, end), start=start, end=end)


def wordpiece_tokenizer_json(vocabulary: Sequence[str], *, lowercase: bool = True) -> bytes:
    """BERT's word pieces, as transformers' `BertTokenizer` splits and numbers them.

    Args:
        vocabulary: the lines of `vocab.txt`; a token's id is its line number, from 0.
        lowercase: whether the model was trained on lower case without accents.

    Raises:
        InvalidInput: one of [PAD], [UNK], [CLS], [SEP], [MASK] is missing.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    ids = {token: index for index, token in enumerate(vocabulary)}
    if missing := [token for token in special if token not in ids]:
        raise InvalidInput(f"the vocabulary lacks {', '.join(missing)}, so it is not BERT's", value=missing)
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _serialized(tokenizer, special, start="[CLS]", end="[SEP]")


def unigram_tokenizer_json(model: bytes) -> bytes:
    """A sentencepiece Unigram model with the ids of XLM-R, which are fairseq's: all pieces are shifted by one.

    Args:
        model: the bytes of `sentencepiece.bpe.model`.

    Raises:
        InvalidInput: it is not a sentencepiece model of the Unigram kind.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    pieces, charsmap = _sentencepiece(model)
    if [piece for piece, _ in pieces[:3]] != ["<unk>", "<s>", "</s>"]:
        raise InvalidInput("the sentencepiece model does not begin with <unk>, <s>, </s>, as XLM-R's does")
    # sentencepiece begins with <unk> <s> </s>; fairseq with <s> <pad> </s> <unk>, and ends with a <mask>
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary = [*((token, 0.0) for token in special[:4]), *pieces[3:], (special[4], 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocab=vocabulary, unk_id=3, byte_fallback=False))
    if charsmap:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    metaspace = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    return _serialized(tokenizer, special, start="<s>", end="</s>")


def sentencepiece_tokenizer_json(model: bytes, *, unknown: str = "<unk>", end: str = "</s>") -> bytes:
    """A sentencepiece Unigram model with its own ids and an end token after each text, as SigLIP's.

    Args:
        model: the bytes of `spiece.model`.
        unknown: the piece for unknown characters.
        end: the piece after a text.

    Raises:
        InvalidInput: it is not a sentencepiece model, or lacks one of the two pieces.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    pieces, charsmap = _sentencepiece(model)
    ids = {piece: index for index, (piece, _) in enumerate(pieces)}
    if missing := [piece for piece in (unknown, end) if piece not in ids]:
        raise InvalidInput(f"the sentencepiece model lacks {missing[0]}, so it is not SigLIP's", value=missing)
    tokenizer = Tokenizer(models.Unigram(vocab=pieces, unk_id=ids[unknown], byte_fallback=False))
    spaces = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    table = [normalizers.Precompiled(charsmap)] if charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*table, *spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=False)
    return _serialized(tokenizer, (unknown, end), start="", end=end)


def _serialized(tokenizer: "Tokenizer", special: Sequence[str], start: str, end: str) -> bytes:
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    ends = [(token, tokenizer.token_to_id(token)) for token in (start, end) if token]
    tokenizer.post_processor = TemplateProcessing(single=f"{start} $A {end}".strip(), special_tokens=ends)
    return tokenizer.to_str().encode()


def _pair(merge: str) -> tuple[str, str]:
    first, _, second = merge.partition(" ")
    if not first or not second or " " in second:
        raise InvalidInput(f"{merge!r} is not a merge: expected two tokens separated by a space", value=merge)
    return first, second


def _byte_letters() -> list[str]:
    """The printable character that stands for each byte, in the order of CLIP's ids; printable bytes come first.

    As in GPT-2's byte-level BPE.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in visible] + [chr(256 + index) for index in range(256 - len(visible))]


def _sentencepiece(model: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """The pieces with their scores, and the normalisation table, of a sentencepiece `ModelProto`."""
    pieces: list[tuple[str, float]] = []
    charsmap = b""
    try:
        for number, value in _fields(model):
            if number == 1:
                piece = dict(_fields(value))
                pieces.append((piece[1].decode(), struct.unpack("<f", piece.get(2, bytes(4)))[0]))
            elif number == 3:
                charsmap = dict(_fields(value)).get(2, b"")
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise InvalidInput("not a sentencepiece model") from error
    return pieces, charsmap


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protobuf message: (number, raw value); varints have an empty value.

    From the wire format: https://protobuf.dev/programming-guides/encoding
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        size = 0
        if kind == 0:
            _, place = _varint(message, place)
        elif kind == 2:
            size, place = _varint(message, place)
        else:
            size = {1: 8, 5: 4}[kind]
        if place + size > len(message):
            raise ValueError("a field is truncated")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
