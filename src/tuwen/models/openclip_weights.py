"""Build an open_clip model from its definition, and load its weights from a file.

A text tower that open_clip would configure from the hub is configured from `config.json` in a folder, or from the
configurations in this module. Nothing is downloaded.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from tuwen.bundle.huggingface import read_object
from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import is_torchscript, read_tensors
from tuwen.models.torchvision import import_open_clip

WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
"""the names of open_clip's weights in a folder of the hub; the first one found is used"""

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
"""text towers that open_clip names without a configuration; others need their `config.json`"""


def build(open_clip: ModuleType, config: Mapping[str, Any], seed: int, folder: Path | None) -> Any:  # noqa: ANN401
    """Build a model with random weights on the CPU, with a separate text tower (`force_custom_text`).

    Args:
        open_clip: the package.
        config: its `model_cfg`.
        seed: the seed of the weights.
        folder: the folder of a text tower's `config.json`.

    Raises:
        InvalidInput: the text tower's configuration is neither known nor in `folder`, or open_clip cannot build the
            model.
    """
    arguments = deepcopy(dict(config))
    arguments.pop("custom_text", None)
    if "timm_model_name" in arguments["vision_cfg"]:
        arguments["vision_cfg"]["timm_model_pretrained"] = False  # True would download weights
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
    """The configuration of a text tower of transformers: the folder's `config.json`, or one of `_TEXT_TOWERS`.

    Raises:
        InvalidInput: there is neither.
    """
    from open_clip.hf_configs import arch_dict

    path = folder / "config.json" if folder is not None else None
    if path is not None and path.is_file():
        config = read_object(path)
        if config.get("model_type") in arch_dict:
            return config
    if name not in _TEXT_TOWERS:
        hint = f"put its config.json into {'a folder' if folder is None else folder}"
        raise InvalidInput(
            f"the configuration of the text tower {name} is missing: {hint}", value=name, where=folder, hint=hint
        )
    return _TEXT_TOWERS[name]


def find_weights(folder: Path) -> Path:
    """Find the weights in a folder: a file with one of open_clip's names, or the only file with weights.

    Raises:
        InvalidInput: there is none, or more than one (`.value` lists them).
    """
    named = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    found = named[:1] or [p for p in sorted(folder.iterdir()) if p.suffix in {".safetensors", ".bin", ".pt", ".pth"}]
    if len(found) != 1:
        names = [path.name for path in found]
        raise InvalidInput(
            f"{folder} has no {WEIGHTS[0]} or {WEIGHTS[2]} (other weights: {', '.join(names) or 'none'}): "
            "give the file of the weights",
            value=names,
            where=folder,
        )
    return found[0]


def load_weights(model: torch.nn.Module, weights: Path, name: str) -> None:
    """Load every tensor of a model from a checkpoint, in place, without running code in the file.

    Raises:
        InvalidInput: the file is missing, contains more than tensors, or belongs to another model than `name`.
    """
    from open_clip.factory import load_checkpoint

    try:
        if is_torchscript(weights):
            _load_archive(model, weights)
        else:
            load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except FileNotFoundError as error:
        raise InvalidInput(f"there are no weights at {weights}", where=weights) from error
    except UnpicklingError as error:
        hint = "save only its state dict, or save it as .safetensors"
        raise InvalidInput(
            f"{weights} contains objects other than tensors; loading it could run code, so it is not read: {hint}",
            where=weights,
            hint=hint,
        ) from error
    except (RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()
        raise InvalidInput(
            f"{weights} does not fit {name}: {' '.join(first[:2])[:300]}", value=name, where=weights
        ) from error


def _load_archive(model: torch.nn.Module, weights: Path) -> None:
    from open_clip.model import convert_to_custom_text_state_dict

    state = read_tensors(weights)
    for key in ("input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)
    model.load_state_dict(convert_to_custom_text_state_dict(state))


Sizes = dict[str, int]


def architecture_of(weights: Path) -> str:
    """The only architecture that a file's tensors fit.

    Raises:
        InvalidInput: they fit several (`.value` lists them) or none, or the file cannot be read.
    """
    found = candidates(read_tensors(weights))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInput(
            f"{weights} fits no architecture of open_clip by its shapes; if it should, add --arch NAME",
            where=weights,
            hint="add --arch NAME",
        )
    hint = f"add --arch NAME, one of: {', '.join(found)}"
    raise InvalidInput(f"{weights} fits {len(found)} architectures; {hint}", value=found, where=weights, hint=hint)


def candidates(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of all architectures with the sizes of these tensors, in open_clip's order."""
    open_clip = import_open_clip()
    found = _of_tensors(tensors)
    names: list[str] = open_clip.list_models()
    return [name for name in names if _agree(found, _of_config(open_clip.get_model_config(name)))]


def _agree(found: Sizes, expected: Sizes) -> bool:
    """Whether no size differs, and both or neither are Vision Transformers of CLIP."""
    same = all(found[key] == expected[key] for key in found.keys() & expected.keys())
    return (
        same and ("patch" in found) == ("patch" in expected) and ("text_layers" in found) == ("text_layers" in expected)
    )


def _of_tensors(tensors: Mapping[str, torch.Tensor]) -> Sizes:
    shapes = {name.removeprefix("text."): tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes: Sizes = {}
    if "visual.class_embedding" in shapes and "visual.conv1.weight" in shapes:
        width, _, patch, _ = shapes["visual.conv1.weight"]
        side = int((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
        blocks = _blocks(shapes, "visual.transformer.resblocks.")
        sizes |= {"width": width, "patch": patch, "layers": blocks, "side": side}
    if "token_embedding.weight" in shapes:
        vocabulary, width = shapes["token_embedding.weight"]
        sizes |= {"vocabulary": vocabulary, "text_width": width, "context": shapes["positional_embedding"][0]}
        sizes["text_layers"] = _blocks(shapes, "transformer.resblocks.")
    if len(shapes.get("text_projection", ())) == 2:
        sizes["dim"] = shapes["text_projection"][1]
    return sizes


def _blocks(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})


def _of_config(config: Mapping[str, Any]) -> Sizes:
    vision, text = config["vision_cfg"], config["text_cfg"]
    sizes: Sizes = {"dim": config["embed_dim"]}
    if "timm_model_name" not in vision and isinstance(vision.get("layers"), int):
        patch, image = vision["patch_size"], vision["image_size"]
        side = (image if isinstance(image, int) else image[0]) // patch
        sizes |= {"width": vision["width"], "patch": patch, "layers": vision["layers"], "side": side}
    if "hf_model_name" not in text:
        sizes |= {"vocabulary": text.get("vocab_size", 49408), "text_width": text.get("width", 512)}
        sizes |= {"context": text.get("context_length", 77), "text_layers": text.get("layers", 12)}
    return sizes


State = dict[str, torch.Tensor]

_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}
_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def vision_state(state: Mapping[str, torch.Tensor]) -> State:
    """A Vision Transformer's tensors, from names below `visual.`, with its projection."""
    inner = _below(state, "visual.")
    projection = {"visual_projection.weight": inner.pop("proj").T}
    return {f"vision_model.{name}": tensor for name, tensor in _tower(inner, _VISION)} | projection


def text_state(state: Mapping[str, torch.Tensor]) -> State:
    """A causal text tower's tensors, from names without a prefix, with its projection."""
    inner = {name: tensor for name, tensor in state.items() if not name.startswith(("visual.", "logit_"))}
    projection = {"text_projection.weight": inner.pop("text_projection").T}
    return {f"text_model.{name}": tensor for name, tensor in _tower(inner, _TEXT)} | projection


def depth(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """How many numbered modules there are below `prefix`."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)})


def _below(state: Mapping[str, torch.Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _tower(state: State, around: Mapping[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in state.items():
        if name.startswith("transformer.resblocks."):
            _, _, number, part = name.split(".", 3)
            for new, piece in _block(part, tensor):
                yield f"encoder.layers.{number}.{new}", piece
        else:
            yield _renamed(name, around), tensor


def _block(part: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """One tensor of a block; of `in_proj`, its three parts."""
    if part.startswith("attn.in_proj"):
        ending = part.removeprefix("attn.in_proj")[1:]
        for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
            yield f"self_attn.{letter}_proj.{ending}", piece
    else:
        yield _renamed(part, _BLOCK), tensor


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """The new name of a tensor, or of the module it belongs to. One without keeps its own, and fits nowhere."""
    if name in names:
        return names[name]
    module, _, ending = name.rpartition(".")
    return f"{names[module]}.{ending}" if module in names else name
