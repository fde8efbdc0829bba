"""A trained checkpoint to a verified bundle, through `tuwen.export`.

Knows the checkpoint's tensors and what the bundle must say of them. Does not know how it was trained.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from recipes.emoji.data import cut, pad
from recipes.emoji.model import DualEncoder, Shape
from recipes.emoji.tokenizer import CONTEXT, END_ID, PAD_ID
from recipes.emoji.words import LANGUAGES
from tokenizers import Tokenizer

from tuwen.bundle.bundle import Bundle, read_manifest, seal
from tuwen.bundle.manifest import ImageSpec, Precision, Scoring, TextSpec
from tuwen.export.bundle import export
from tuwen.models.towers import Towers
from tuwen.prepare.pixels import to_pixels
from tuwen.types import Pixels, Tokens

NAME = "tuwen-emoji"
PRECISIONS: tuple[Precision, ...] = ("fp16",)
TEXT_SPEC = TextSpec(
    languages=LANGUAGES,
    cleaning="none",
    context_length=CONTEXT,
    pad_id=PAD_ID,
    pad_to="longest",
    end_id=END_ID,
    mask=True,
    cut_exact=False,  # export proves it
)
KIND = "pictograms, not photos: trained on emoji drawings alone"


def pack(checkpoint: Path, tokenizer: Path, folder: Path) -> Bundle:
    """Export the averaged weights of `checkpoint` to `folder`."""
    state = torch.load(checkpoint, weights_only=False)
    model = DualEncoder(Shape(**state["shape"]))
    model.load_state_dict(state["average"])
    return export(towers(model.eval(), tokenizer, state), folder, PRECISIONS)


def record(folder: Path, facts: dict[str, Any]) -> None:
    """Add measured figures to the manifest."""
    manifest = read_manifest(folder)
    seal(folder, manifest.model_copy(update={"facts": {**manifest.facts, **facts}}))


def towers(model: DualEncoder, tokenizer: Path, state: dict[str, Any]) -> Towers:
    """What export needs to know of the model."""
    size = state["shape"]["image_size"]
    image_spec = ImageSpec(size=(size, size), resize="shortest", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    tokens = Tokenizer.from_file(str(tokenizer))

    def reference_pixels(images: Sequence[Image.Image]) -> Pixels:
        return to_pixels(image_spec, images)

    def reference_tokens(texts: Sequence[str]) -> Tokens:
        whole = [encoding.ids for encoding in tokens.encode_batch(list(texts))]
        ids = [cut(row) for row in whole]
        padded = pad([*ids, [PAD_ID] * CONTEXT])[0].numpy()[:-1]
        truncated = sum(len(row) > CONTEXT for row in whole)
        return Tokens(padded, np.array([len(row) for row in ids]), truncated)

    return Towers(
        name=NAME,
        family="tuwen",
        source="recipes/emoji",
        licence="Apache-2.0",
        vision=model.vision,
        text=model.text,
        image_spec=image_spec,
        text_spec=TEXT_SPEC,
        scoring=Scoring(kind="softmax", scale=round(model.log_scale.exp().item(), 4)),
        tokenizer=tokenizer.read_bytes(),
        weights={
            name: tensor for name, tensor in model.state_dict().items() if not name.endswith("batches_tracked")
        },
        to_pixels=reference_pixels,
        to_tokens=reference_tokens,
        facts={
            "kind": KIND,
            "seed": state["config"]["seed"],
            "steps": state["step"],
            "training_seconds": round(state["seconds"]),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
    )
