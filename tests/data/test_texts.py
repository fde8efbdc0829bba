import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuwen.bundle.manifest import TextSpec
from tuwen.data.tokens import Tokenizer
from tuwen.data.vocabularies import bpe_tokenizer_json, unigram_tokenizer_json, wordpiece_tokenizer_json
from tuwen.errors import BundleInvalid

from .material import ODD, SENTENCES, TEXTS, bert_vocabulary, clip_merges, differing

START, END = 49406, 49407
CLIP = TextSpec(
    cleaning="ftfy_html",
    context_length=77,
    pad_id=0,
    pad_to="context",
    end_id=END,
    mask=False,
    cut_exact=True,
)
BERT = TextSpec(cleaning="none", context_length=52, pad_id=0, pad_to="context", end_id=102, mask=True, cut_exact=True)
XLMR = TextSpec(cleaning="none", context_length=77, pad_id=1, pad_to="context", end_id=2, mask=True, cut_exact=True)


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "tokenizer.json"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def clip(shared_data, tmp_path_factory) -> Tokenizer:
    return Tokenizer(saved(tmp_path_factory.mktemp("clip"), bpe_tokenizer_json(clip_merges(shared_data))), CLIP)


@pytest.fixture(scope="module")
def open_clip_tokenizer(importable):
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@pytest.fixture(scope="module")
def bert(shared_data, tmp_path_factory) -> Tokenizer:
    content = wordpiece_tokenizer_json(bert_vocabulary(shared_data))
    return Tokenizer(saved(tmp_path_factory.mktemp("bert"), content), BERT)


@pytest.fixture(scope="module")
def spm_model(tmp_path_factory) -> bytes:
    """A sentencepiece model, trained here as XLM-R's was: Unigram, NFKC, full character coverage."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("spm")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([*SENTENCES.values(), *ODD[3:12]] * 4), encoding="utf-8", errors="replace")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "spm"),
        vocab_size=1000,
        hard_vocab_limit=False,
        model_type="unigram",
        character_coverage=1.0,
        minloglevel=2,
    )
    return (folder / "spm.model").read_bytes()


@pytest.fixture(scope="module")
def xlmr(spm_model, tmp_path_factory) -> Tokenizer:
    return Tokenizer(saved(tmp_path_factory.mktemp("xlmr"), unigram_tokenizer_json(spm_model)), XLMR)


def rows(tokenizer: Tokenizer, texts) -> list[list[int]]:
    tokens = tokenizer.to_tokens(texts)
    return [row[:length].tolist() for row, length in zip(tokens.ids, tokens.lengths, strict=True)]


def whole_text(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which transformers raises on."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.parity
def test_equals_open_clip(clip, open_clip_tokenizer) -> None:
    ours = clip.to_tokens(TEXTS)
    theirs = open_clip_tokenizer(list(TEXTS)).numpy()
    assert differing(TEXTS, ours.ids.tolist(), theirs.tolist()) == []
    assert ours.ids.dtype == np.int64
    typed = np.array(["end_of_text" in text.lower() for text in TEXTS])
    assert (ours.lengths == theirs.argmax(axis=1) + 1)[~typed].all()


ALPHABET = st.characters(exclude_categories=["Cn", "Co", "Cs"])  # newer letters are not yet letters to every library
PIECES = st.sampled_from(
    [
        "<end_of_text>",
        "<start_of_text>",
        "'s",
        "'LL",
        "’",
        "&amp;",
        "&#",
        ";",
        " ",
        "!",
        "<",
        ">",
        "_",
        "ς",
        "Σ",
        "ſ",
    ]
)
TYPED = st.lists(PIECES | st.text(ALPHABET, max_size=6), max_size=12).map("".join)


@pytest.mark.parity
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TYPED)
def test_equals_open_clip_on_what_nobody_thought_of(clip, open_clip_tokenizer, text: str) -> None:
    assert clip.to_tokens([text]).ids.tolist() == open_clip_tokenizer([text]).tolist()


@pytest.mark.parity
def test_equals_transformers_bert(importable, bert, shared_data) -> None:
    from transformers import BertTokenizer

    vocabulary = {token: index for index, token in enumerate(bert_vocabulary(shared_data))}
    reference = BertTokenizer(vocab=vocabulary)
    texts = [text for text in TEXTS if whole_text(text)]
    theirs = reference(texts, padding="max_length", truncation=True, max_length=52)["input_ids"]
    assert differing(texts, bert.to_tokens(texts).ids.tolist(), theirs) == []
    assert bert.to_tokens(["狗"]).ids[0, :4].tolist() == [101, vocabulary["狗"], 102, 0]


@pytest.mark.parity
def test_equals_transformers_xlm_r(importable, xlmr, spm_model) -> None:
    import sentencepiece
    from transformers import XLMRobertaTokenizer

    reference = XLMRobertaTokenizer(
        vocab=reference_vocabulary(spm_model), _spm_precompiled_charsmap=charsmap(spm_model)
    )
    texts = [text for text in TEXTS if whole_text(text)]
    theirs = reference(texts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    assert differing(texts, xlmr.to_tokens(texts).ids.tolist(), theirs) == []

    processor = sentencepiece.SentencePieceProcessor(model_proto=spm_model)
    plain = list(SENTENCES.values())
    shifted = [[0, *(piece + 1 if piece else 3 for piece in processor.encode(text)), 2] for text in plain]
    assert differing(plain, rows(xlmr, plain), shifted) == []


def reference_vocabulary(model: bytes) -> list[tuple[str, float]]:
    """Read with sentencepiece itself, numbered as fairseq does."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(3, processor.get_piece_size())]
    head = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return [*head, *pieces, ("<mask>", 0.0)]


def charsmap(model: bytes) -> bytes:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    return proto.normalizer_spec.precompiled_charsmap


@pytest.mark.parametrize(("fixture", "unknown"), [("bert", 100), ("xlmr", 3)])
def test_few_tokens_are_unknown(request, fixture: str, unknown: int) -> None:
    tokenizer = request.getfixturevalue(fixture)
    known = ["zh", "en", "ja"] if fixture == "bert" else list(SENTENCES)
    ids = [index for row in rows(tokenizer, [SENTENCES[language] for language in known]) for index in row]
    assert len(ids) > 20 * len(known)
    assert ids.count(unknown) / len(ids) <= 0.05


def test_an_empty_text_is_its_ends(clip, bert, xlmr) -> None:
    for tokenizer, ends in [(clip, [START, END]), (bert, [101, 102]), (xlmr, [0, 2])]:
        assert rows(tokenizer, ["", "  "]) == [ends, ends]
        assert tokenizer.to_tokens([]).lengths.tolist() == []


def test_a_long_text_keeps_its_end_token_and_is_counted(clip, bert, xlmr) -> None:
    for tokenizer, spec in [(clip, CLIP), (bert, BERT), (xlmr, XLMR)]:
        tokens = tokenizer.to_tokens(["狗 " * 200, "狗", "dog " * 200])
        assert tokens.truncated == 2
        assert tokens.ids.shape == (3, spec.context_length)
        assert tokens.ids[0, -1] == tokens.ids[2, -1] == spec.end_id
        assert tokens.lengths.tolist()[0] == spec.context_length
        short = int(tokens.lengths[1])
        assert tokens.ids[1, short - 1] == spec.end_id
        assert (tokens.ids[1, short:] == spec.pad_id).all()


def test_a_text_of_just_the_context_length_is_not_cut(clip) -> None:
    tokens = clip.to_tokens(["dog " * 75, "dog " * 76])
    assert tokens.lengths.tolist() == [77, 77]
    assert tokens.truncated == 1


def test_padding_to_the_longest(shared_data, tmp_path) -> None:
    path = saved(tmp_path, wordpiece_tokenizer_json(bert_vocabulary(shared_data)))
    tokenizer = Tokenizer(path, BERT.model_copy(update={"pad_to": "longest", "pad_id": 7}))
    tokens = tokenizer.to_tokens(["狗", "两只狗"])
    assert tokens.lengths.tolist() == [3, 5]
    assert tokens.ids.shape == (2, 5)
    assert tokens.ids[0, 3:].tolist() == [7, 7]
    assert tokenizer.to_tokens([]).ids.shape == (0, 0)


def test_without_an_end_token_the_text_is_simply_cut(shared_data, tmp_path) -> None:
    path = saved(tmp_path, wordpiece_tokenizer_json(bert_vocabulary(shared_data)))
    tokenizer = Tokenizer(path, BERT.model_copy(update={"end_id": None, "context_length": 4}))
    whole = rows(Tokenizer(path, BERT), ["两只棕色的狗"])[0]
    assert rows(tokenizer, ["两只棕色的狗"]) == [whole[:4]]


def test_settings_in_the_file_do_not_count(shared_data, tmp_path) -> None:
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(wordpiece_tokenizer_json(bert_vocabulary(shared_data)).decode())
    backend.enable_truncation(4)
    backend.enable_padding(length=60)
    tokens = Tokenizer(saved(tmp_path, backend.to_str().encode()), BERT).to_tokens(["两只棕色的狗"])
    assert tokens.lengths.tolist() == [8]
    assert tokens.truncated == 0


def test_a_wrong_end_token_is_refused(shared_data, tmp_path) -> None:
    path = saved(tmp_path, wordpiece_tokenizer_json(bert_vocabulary(shared_data)))
    with pytest.raises(BundleInvalid) as raised:
        Tokenizer(path, XLMR)
    assert (raised.value.value, raised.value.where) == ([102], path)


def test_a_broken_file_is_refused(tmp_path) -> None:
    for path in (saved(tmp_path, b'{"version": "1.0"}'), tmp_path / "nothing.json"):
        with pytest.raises(BundleInvalid) as raised:
            Tokenizer(path, CLIP)
        assert raised.value.where == path
        assert raised.value.hint


def test_many_threads_agree(clip) -> None:
    expected = clip.to_tokens(TEXTS).ids
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(bool((clip.to_tokens(TEXTS).ids == expected).all())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
