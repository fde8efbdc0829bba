"""Small checkpoints with random weights that are built and exported exactly as large ones are.

One is open_clip's ViT-B-32 at two narrow layers; the other reads texts with a BERT of transformers that masks its
padding, after Chinese word pieces.
"""

from collections.abc import Sequence

import numpy as np
import torch

from tuwen.bundle.manifest import TextSpec
from tuwen.data.vocabularies import wordpiece_tokenizer_json
from tuwen.exporting.samples import TEXTS
from tuwen.models.openclip import load
from tuwen.models.towers import Towers
from tuwen.types import Tokens

OVERRIDES = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 16},
    "text_cfg": {"layers": 2, "width": 64, "heads": 4},
}
CONTEXT = 24


def causal(seed: int = 0) -> Towers:
    """open_clip's ViT-B-32, two layers of width 64."""
    return load("ViT-B-32", overrides=OVERRIDES, seed=seed)


def masked(seed: int = 0) -> Towers:
    """The vision tower above beside a BERT that takes an attention mask."""
    vision = causal(seed)
    letters = sorted({letter for text in TEXTS for letter in text.lower() if not letter.isspace()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = MaskedText(len(vocabulary), 32)
    return Towers(
        name=f"masked/random-{seed}",
        family="test",
        source="tests/exporting/checkpoints.py",
        vision=vision.vision,
        text=text,
        image_spec=vision.image_spec,
        text_spec=TextSpec(
            languages=("zh",),
            cleaning="none",
            context_length=CONTEXT,
            pad_id=0,
            pad_to="context",
            end_id=3,
            mask=True,
            cut_exact=False,
        ),
        scoring=vision.scoring,
        tokenizer=wordpiece_tokenizer_json(vocabulary),
        weights={**vision.weights, **{f"text.{name}": tensor for name, tensor in text.state_dict().items()}},
        to_pixels=vision.to_pixels,
        to_tokens=_bert_tokens(vocabulary),
    )


class MaskedText(torch.nn.Module):
    """BERT's first token, projected."""

    def __init__(self, words: int, dim: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=words,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=CONTEXT,
        )
        self.bert = BertModel(config, add_pooling_layer=False).eval()
        self.project = torch.nn.Linear(32, dim)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.project(states[:, 0])


def _bert_tokens(vocabulary: Sequence[str]):
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(vocabulary)})

    def to_tokens(texts: Sequence[str]) -> Tokens:
        read = tokenizer(list(texts), padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="np")
        return Tokens(read["input_ids"].astype(np.int64), read["attention_mask"].sum(axis=1))

    return to_tokens
