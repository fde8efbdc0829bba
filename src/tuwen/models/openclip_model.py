"""An open_clip model from its definition, and its weights from a file. Never goes to the network.

Knows open_clip's constructors and checkpoints. A text tower that open_clip would configure from the hub is
configured from `config.json` in a folder, or from what is written here.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from tuwen.bundle.config import read_object
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import is_torchscript, read_tensors

WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""What open_clip's own weights are called in a folder of the hub; the first that is there is taken."""

_ROBERTA_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
_ROBERTA_LARGE = _ROBERTA_BASE | {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "xlm-roberta-base": {"model_type": "xlm-roberta", "vocab_size": 250002, **_ROBERTA_BASE},
    "xlm-roberta-large": {"model_type": "xlm-roberta", "vocab_size": 250002, **_ROBERTA_LARGE},
    "roberta-base": {"model_type": "roberta", "vocab_size": 50265, **_ROBERTA_BASE},
}
"""Text towers that open_clip names and does not describe; the others need their `config.json`."""


def build(open_clip: ModuleType, config: Mapping[str, Any], seed: int, folder: Path | None) -> Any:  # noqa: ANN401
    """The model with random weights, on the CPU, with its text tower apart (`force_custom_text`).

    Args:
        open_clip: the package.
        config: its `model_cfg`.
        seed: of the weights.
        folder: where a text tower of the hub finds its `config.json`.

    Raises:
        InvalidInput: the text tower's configuration is neither known nor in `folder`, or open_clip can make nothing
            of what it is given.
    """
    arguments = deepcopy(dict(config))
    arguments.pop("custom_text", None)
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False  # True would ask the hub
    built = open_clip.CoCa if "multimodal_cfg" in arguments else open_clip.CustomTextCLIP
    with TemporaryDirectory() as scratch, torch.random.fork_rng(devices=[]):
        if name := arguments["text_cfg"].get("hf_model_name"):
            written = Path(scratch) / "config.json"
            written.write_text(json.dumps(text_tower(name, folder)), encoding="utf-8")
            arguments["text_cfg"] |= {"hf_model_name": scratch, "hf_model_pretrained": False}
        torch.manual_seed(seed)
        try:
            model = built(**arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise InvalidInput(f"open_clip cannot build this model: {error}; correct its configuration") from error
    return model.eval()


def text_tower(name: str, folder: Path | None) -> dict[str, Any]:
    """What transformers needs to know of a text tower: `config.json` of the folder, where it is of such a one.

    Raises:
        InvalidInput: it is described nowhere.
    """
    from open_clip.hf_configs import arch_dict

    path = folder / "config.json" if folder is not None else None
    if path is not None and path.is_file():
        config = read_object(path)
        if config.get("model_type") in arch_dict:
            return config
    if name not in _TEXT_TOWERS:
        where = "a folder" if folder is None else str(folder)
        raise InvalidInput(f"the text tower {name} is described nowhere here: put its config.json into {where}")
    return _TEXT_TOWERS[name]


def find_weights(folder: Path) -> Path:
    """The weights in a folder: by the names open_clip gives them, or the only file that could be them.

    Raises:
        InvalidInput: there is none, or more than one that could be.
    """
    named = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    found = named[:1] or [
        p for p in sorted(folder.iterdir()) if p.suffix in {".safetensors", ".bin", ".pt", ".pth"}
    ]
    if len(found) != 1:
        have = ", ".join(path.name for path in found) or "none"
        raise InvalidInput(f"{folder} has no {WEIGHTS[0]} or {WEIGHTS[2]} (other weights: {have}): name the file")
    return found[0]


def load_weights(model: torch.nn.Module, weights: Path, name: str) -> None:
    """Fill a model from a checkpoint, in place, every tensor of it; no code in the file is run.

    Raises:
        InvalidInput: it is missing, holds more than tensors, or is of another model than `name`.
    """
    from open_clip.factory import load_checkpoint

    try:
        if is_torchscript(weights):
            _load_archive(model, weights)
        else:
            load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except FileNotFoundError as error:
        raise InvalidInput(f"there are no weights at {weights}") from error
    except UnpicklingError as error:
        raise InvalidInput(
            f"{weights} holds more than tensors, and is not read because loading it could run code: "
            "save its state dict alone, or as .safetensors"
        ) from error
    except (RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()
        raise InvalidInput(f"{weights} does not fit {name}: {' '.join(first[:2])[:300]}") from error


def _load_archive(model: torch.nn.Module, weights: Path) -> None:
    from open_clip.model import convert_to_custom_text_state_dict

    state = read_tensors(weights)
    for key in ("input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)
    model.load_state_dict(convert_to_custom_text_state_dict(state))
