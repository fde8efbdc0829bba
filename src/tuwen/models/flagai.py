"""AltCLIP (-m9, -m18) as FlagAI keeps it in a folder: its own configuration around the tensors of transformers.

FlagAI's configuration calls itself a CLIP whose text configuration is that of XLM-R; the tensors have the names
that transformers' AltCLIP took over. Its older models over a BERT are not read: transformers' AltCLIP numbers
positions as XLM-R does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuwen.bundle.foreign import name_of
from tuwen.bundle.huggingface import read_object
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_folder
from tuwen.models.sources import Contents
from tuwen.models.tokenizers import tokenizer_of
from tuwen.models.towers import Towers
from tuwen.models.transformers import build, pictures_of, texts_of, towers_of

_TEXT = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "project_dim"),
)
_VISION = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("image_size", "patch_size", "layer_norm_eps"),
)
_UNUSED = ("text_model.roberta.pooler.", "text_model.encoder_tfm.")
"""What FlagAI's classes have and its vectors are not made of."""


def load(folder: Path) -> Towers:
    """Load the model in a folder, e.g. `checkpoints/AltCLIP-XLMR-L`, as FlagAI's AutoLoader leaves it.

    Raises:
        InvalidInput: another file is missing or damaged, the text tower is no XLM-R, or the weights are of another
            model or could run code.
        BundleInvalid: `config.json` or `preprocessor_config.json` is missing, is no JSON, or says what tuwen does
            not know.
    """
    config = read_object(folder / "config.json")
    name = name_of(folder)
    pictures = pictures_of(folder)
    state = {key: tensor for key, tensor in read_folder(folder).items() if not key.startswith(_UNUSED)}
    model = build(_converted(folder, config), state, name)
    return towers_of(model, f"flagai:{name}", pictures, texts_of(tokenizer_of(folder), model.config))


def is_here(contents: Contents) -> bool:
    """Whether the folder's configuration is one that FlagAI writes for AltCLIP."""
    text = contents.config.get("text_config")
    return isinstance(text, Mapping) and text.get("model_type") in ("xlm-roberta", "bert") and "project_dim" in text


def _converted(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """As `config.json` of transformers' AltCLIP."""
    text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
    if text.get("model_type") != "xlm-roberta":
        raise InvalidInput(
            f"{folder / 'config.json'}: the text tower is {text.get('model_type')!r}, and only FlagAI's models "
            "over xlm-roberta are read"
        )
    return {
        "model_type": "altclip",
        "projection_dim": config.get("projection_dim", 512),
        "text_config": {key: text[key] for key in _TEXT if key in text},
        "vision_config": {key: vision[key] for key in _VISION if key in vision},
    }
