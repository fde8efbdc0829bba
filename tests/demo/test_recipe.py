"""The parts of the demo model's recipe that need no font and no word list."""

import numpy as np
import pytest
import torch
from recipes.emoji.augment import compose
from recipes.emoji.captions import AND, TEMPLATES, Captions
from recipes.emoji.data import cut, pad
from recipes.emoji.model import Shape, TextTower
from recipes.emoji.objective import any_of, encode
from recipes.emoji.tokenizer import CONTEXT, END_ID, train_tokenizer
from recipes.emoji.words import LANGUAGES, Emoji, fold, held_out, slug

SHAPE = Shape(vocabulary=50, context=CONTEXT)


def emoji(number: int, *keywords: str) -> Emoji:
    names = {language: f"{language} name {number}" for language in LANGUAGES}
    return Emoji(chr(0x1F400 + number), f"name-{number}", "group", names, dict.fromkeys(LANGUAGES, keywords))


MANY = [emoji(n, "animal", f"own {n}") for n in range(200)]


def test_slugs_are_kebab_case() -> None:
    assert slug("flag: Côte d’Ivoire") == "flag-cote-d-ivoire"
    assert slug("keycap: #") == "keycap-hash"


def test_fold_makes_spellings_one() -> None:
    assert fold("Ｃat  Face") == "cat face"


def test_held_out_keywords_stay_with_other_pictures() -> None:
    unseen = held_out(MANY)
    assert {keyword for _, keyword in unseen} == {"animal"}
    assert 5 <= len(unseen) <= 40
    assert unseen == held_out(MANY[::-1])


def test_held_out_pairs_are_never_said_and_never_negatives() -> None:
    captions = Captions(MANY)
    rng = np.random.default_rng(0)
    hidden = [n for n, e in enumerate(MANY) if (e.code, "animal") in captions.held_out]
    said = {captions.word(n, 0, rng)[0] for n in hidden for _ in range(50)}
    assert "animal" not in said
    meaning = captions.meaning("Animal")
    assert set(meaning.unseen) == set(hidden)
    assert not set(meaning.positions) & set(hidden)
    assert sum(meaning.weights) == pytest.approx(1)


def test_a_name_outweighs_the_same_word_as_keyword() -> None:
    captions = Captions([emoji(0), emoji(1, "en name 0")])
    assert captions.meaning("en name 0").weights == pytest.approx((0.9, 0.1))


def test_every_language_has_sentences() -> None:
    assert set(TEMPLATES) == set(AND) == set(LANGUAGES)
    assert all(template.count("{}") == 1 for templates in TEMPLATES.values() for template in templates)
    assert all(template.count("{}") == 2 for template in AND.values())


def test_tokenizer_comes_out_the_same_twice() -> None:
    texts = [f"{word} {n}" for n in range(50) for word in ("cat", "狗", "собака", "แมว")]
    first, second = train_tokenizer(texts), train_tokenizer(texts)
    assert first.to_str() == second.to_str()
    assert first.encode("CAT").ids == first.encode(" cat ").ids
    assert first.encode("").ids == [2, 3]


def test_padding_changes_no_text_vector() -> None:
    torch.manual_seed(0)
    tower = TextTower(SHAPE).eval()
    ids, mask = pad([[2, 7, 8, 3], [2, 9, 10, 11, 12, 3]])
    long_ids, long_mask = pad([[2, 7, 8, 3], [2, 9, 10, 11, 12, 3], [2] * CONTEXT])
    with torch.inference_mode():
        assert torch.allclose(tower(ids, mask), tower(long_ids, long_mask)[:2], atol=1e-6)


def test_encode_keeps_the_order() -> None:
    torch.manual_seed(0)
    tower = TextTower(SHAPE).eval()
    texts = [[2, *range(5, 5 + n), 3] for n in (9, 1, 4, 7)]
    with torch.inference_mode():
        together = encode(tower, texts, at_once=2)
        alone = torch.cat([encode(tower, [text], at_once=1) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)


def test_cut_keeps_the_end_token() -> None:
    assert cut(list(range(100)))[-1] == END_ID
    assert len(cut(list(range(100)))) == CONTEXT
    assert cut([2, 5, 3]) == [2, 5, 3]


def test_scenes_are_drawn_on_their_own_rows() -> None:
    red = torch.zeros(2, 4, 64, 64)
    red[:, [0, 3]] = 1.0
    nothing = torch.zeros(1, 4, 64, 64)
    drawn = compose([red, nothing], [[0, 1], [1]], 64, np.random.default_rng(3))
    assert drawn.shape == (2, 3, 64, 64)
    assert drawn.abs().max() <= 1
    redness = (drawn[:, 0] - drawn[:, 2]).mean((1, 2))
    assert redness[0] > redness[1]


def test_all_positives_share_the_loss() -> None:
    logits = torch.tensor([[2.0, 2.0, -50.0], [0.0, 0.0, 0.0]])
    positive = torch.tensor([[True, True, False], [False, False, False]])
    assert any_of(logits, positive).item() == pytest.approx(0, abs=1e-5)
    assert any_of(logits, ~positive[:1].expand(2, 3)).item() > 20
