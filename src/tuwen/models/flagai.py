"""AltCLIP (-m9, -m18) in FlagAI's folder layout: its own configuration, with tensors as in transformers.

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
from tuwen.models.checkpoints import Inspection, read_folder
from tuwen.models.towers import Towers
from tuwen.models.transformers import build, pictures_of, texts_of, tokenizer_of, towers_of

_TEXT = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "project_dim"),
)
_VISION = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("image_size", "patch_size", "layer_norm_eps"),
)
_UNUSED = ("text_model.roberta.pooler.", "text_model.encoder_tfm.")
"""tensors of FlagAI's classes that its vectors do not depend on"""


def load(folder: Path) -> Towers:
    """Load the model in a folder as FlagAI's AutoLoader writes it, e.g. `checkpoints/AltCLIP-XLMR-L`.

    Raises:
        InvalidInput: another file is missing or damaged, the text tower is not XLM-R, or the weights belong to
            another model or could run code.
        BundleInvalid: `config.json` or `preprocessor_config.json` is missing, is not JSON, or has unknown values.
    """
    config = read_object(folder / "config.json")
    name = name_of(folder)
    pictures = pictures_of(folder)
    state = {key: tensor for key, tensor in read_folder(folder).items() if not key.startswith(_UNUSED)}
    model = build(_converted(folder, config), state, name)
    return towers_of(model, f"flagai:{name}", pictures, texts_of(tokenizer_of(folder), model.config))


def recognises(found: Inspection) -> bool:
    """Whether the folder's configuration is one that FlagAI writes for AltCLIP."""
    text = found.config.get("text_config")
    return isinstance(text, Mapping) and text.get("model_type") in ("xlm-roberta", "bert") and "project_dim" in text


def _converted(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as in `config.json` of transformers' AltCLIP."""
    text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
    if text.get("model_type") != "xlm-roberta":
        raise InvalidInput(
            f"{folder / 'config.json'}: the text tower is {text.get('model_type')!r}; only FlagAI's models over "
            "xlm-roberta are supported",
            value=text.get("model_type"),
            where=folder / "config.json",
        )
    return {
        "model_type": "altclip",
        "projection_dim": config.get("projection_dim", 512),
        "text_config": {key: text[key] for key in _TEXT if key in text},
        "vision_config": {key: vision[key] for key in _VISION if key in vision},
    }
