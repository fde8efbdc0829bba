"""The untrained towers of the model `pictograms`, with everything that training and export need to know about them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from recipes.emoji.captions import Captions
from recipes.emoji.data import cut, pad
from recipes.emoji.model import IMAGE_SIZE, ImageTower, Shape, TextTower
from recipes.emoji.tokenizer import CONTEXT, END_ID, PAD_ID, tokenizer_file
from recipes.emoji.words import LANGUAGES, read_emoji
from tokenizers import Tokenizer

from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.data.pixels import to_pixels
from tuwen.models.towers import Towers
from tuwen.types import Pixels, Tokens

NAME = "pictograms"
SCALE = 20.0
"""the initial scale of cosines"""
TEXT_SPEC = TextSpec(
    languages=LANGUAGES,
    cleaning="none",
    context_length=CONTEXT,
    pad_id=PAD_ID,
    pad_to="longest",
    end_id=END_ID,
    mask=True,
    cut_exact=False,  # determined by training and export
)
IMAGE_SPEC = ImageSpec(size=(IMAGE_SIZE, IMAGE_SIZE), resize="shortest", mean=(0.5,) * 3, std=(0.5,) * 3)
KIND = "pictograms, not photos: trained on emoji drawings alone"


def towers(work: str) -> Towers:
    """Build towers with random weights, by the run's seed; the tokenizer is trained if `work` has none yet."""
    file = tokenizer_file(Path(work), lambda: Captions(read_emoji()).texts())
    tokens = Tokenizer.from_file(str(file))
    shape = Shape(tokens.get_vocab_size(), CONTEXT)
    vision = ImageTower(shape).to(memory_format=torch.channels_last)
    text = TextTower(shape)
    named = {"vision": vision, "text": text}
    return Towers(
        name=NAME,
        family="tuwen",
        source="recipes/emoji",
        licence="Apache-2.0",
        vision=vision,
        text=text,
        image_spec=IMAGE_SPEC,
        text_spec=TEXT_SPEC,
        scoring=Scoring(kind="softmax", scale=SCALE),
        tokenizer=file.read_bytes(),
        weights={f"{name}.{key}": value for name, tower in named.items() for key, value in tower.named_parameters()},
        to_pixels=_pixels,
        to_tokens=lambda texts: _tokens(tokens, texts),
        facts={"kind": KIND, "parameters": sum(p.numel() for tower in named.values() for p in tower.parameters())},
    )


def _pixels(images: Sequence[Image.Image]) -> Pixels:
    return to_pixels(IMAGE_SPEC, images)


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    whole = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    ids = [cut(row) for row in whole]
    padded = pad([*ids, [PAD_ID] * CONTEXT])[0].numpy()[:-1]
    truncated = sum(len(row) > CONTEXT for row in whole)
    return Tokens(padded, np.array([len(row) for row in ids]), truncated)
