"""Models of transformers in a local folder, as its `save_pretrained` and the hub lay them out.

CLIP, Chinese-CLIP, AltCLIP (-m9, -m18), SigLIP, and SigLIP 2 of a fixed resolution, which is a SigLIP with another
tokenizer. Knows the files of such a folder; never goes to the network, and runs no code that lies in one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuwen.bundle.config import read_object
from tuwen.bundle.foreign import name_of
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_folder
from tuwen.models.contents import Contents
from tuwen.models.tokenizers import tokenizer_of
from tuwen.models.towers import Towers
from tuwen.models.transformers_parts import KINDS, build, pictures_of, random, texts_of, towers_of


def load(
    folder: Path, name: str | None = None, *, seed: int | None = None, overrides: Mapping[str, Any] | None = None
) -> Towers:
    """Load the model in a folder, or make one like it.

    Args:
        folder: with config.json, a processor's configuration, a tokenizer's files, and the weights.
        name: what people call the model; else the folder's name, of a snapshot the repository's.
        seed: of random weights in place of the folder's, which need not be there.
        overrides: what `config.json` should say instead, nested entries in nested mappings; only with a seed.

    Raises:
        InvalidInput: another file is missing or damaged, the model is of a kind that is not known, or the weights
            are not of this model or could run code.
        BundleInvalid: `config.json` is missing or no JSON, or the processor's says what tuwen does not know.
    """
    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if kind not in KINDS:
        raise InvalidInput(f"{folder / 'config.json'}: model_type is {kind!r}; there are {', '.join(KINDS)}")
    name = name or name_of(folder)
    pictures = pictures_of(folder)
    if seed is None:
        model = build(config, read_folder(folder), name)
    else:
        model = random(_merged(config, overrides or {}), name, seed)
    return towers_of(model, f"hf:{name}", pictures, texts_of(tokenizer_of(folder), model.config))


def _merged(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(config.get(key) or {}, value) for key, value in overrides.items() if isinstance(value, Mapping)
    }
    return {**config, **overrides, **inner}


def is_here(contents: Contents) -> bool:
    """Whether this is the folder of a model that `load` takes."""
    return contents.config.get("model_type") in KINDS
