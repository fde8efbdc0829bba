"""The parts of the demo model's recipe that need no font and no word list."""

import numpy as np
import pytest
import torch
from recipes.emoji.augment import compose
from recipes.emoji.captions import AND, TEMPLATES, Captions
from recipes.emoji.data import Art, Batches, CaptionBatches, Material, cut, pad
from recipes.emoji.model import ImageTower, Shape, TextTower
from recipes.emoji.objective import Anchored, Pull, any_of, encode
from recipes.emoji.polish import Polished
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


@pytest.fixture(scope="module")
def known() -> Material:
    captions = Captions(MANY[:20])
    tokenizer = train_tokenizer(captions.texts())
    pictures = torch.randint(0, 256, (20, 4, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Material(captions, tokenizer, Art(pictures, [[row] for row in range(20)]))


class SmallPair(torch.nn.Module):
    """What the objectives use of a pair in training."""

    def __init__(self, known: Material) -> None:
        super().__init__()
        shape = Shape(known.tokenizer.get_vocab_size(), CONTEXT, image_widths=(8, 8, 8), text_width=20, text_heads=2)
        self.vision, self.text = ImageTower(shape), TextTower(shape)
        self.log_scale = torch.nn.Parameter(torch.tensor([3.0]))


def learned(objective: torch.nn.Module, batches: Batches | CaptionBatches, steps: int) -> list[float]:
    """The losses of some steps."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = objective(batches.next())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.long
def test_captions_follow_the_pictures_once_these_stand(known: Material) -> None:
    torch.manual_seed(0)
    batches = Batches(known, (1, 0), pictures=8, texts=16, scenes=0.25)
    objective = Anchored(SmallPair(known), batches, Pull(direct_from=20))
    losses = learned(objective, batches, 20)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert not objective.places.any()
    learned(objective, batches, 5)
    assert torch.allclose(objective.places.norm(dim=-1), torch.ones(20), atol=1e-5)


def test_captions_alone_go_to_standing_places(known: Material) -> None:
    torch.manual_seed(0)
    batches = CaptionBatches(known, (1, 0), texts=16, scenes=0.2)
    places = torch.nn.functional.normalize(torch.randn(20, 128), dim=-1)
    losses = learned(Polished(SmallPair(known), batches, places, 20.0), batches, 20)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_batches_go_on_where_they_were(known: Material) -> None:
    ours, theirs = (Batches(known, (1, 0), pictures=8, texts=16, scenes=0.25) for _ in range(2))
    ours.next()
    theirs.load_state(ours.state())
    one, other = ours.next(), theirs.next()
    assert one.pixels.equal(other.pixels)
    assert one.said.texts == other.said.texts
