"""Which architectures of open_clip a file of weights may be of, by the shapes of its tensors.

Compares what both say. A shape that a configuration does not name (timm's towers, Hugging Face's) excludes nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tuwen.errors import InvalidInput
from tuwen.models.checkpoints import read_tensors

Sizes = dict[str, int]


def architecture_of(weights: Path) -> str:
    """The one architecture that a file fits.

    Raises:
        InvalidInput: it fits several or none; the message lists them. Or it cannot be read.
    """
    found = candidates(read_tensors(weights))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidInput(
            f"{weights} has the shapes of no architecture of open_clip: if it is one, add --arch NAME"
        )
    raise InvalidInput(
        f"{weights} may be of {len(found)} architectures: add --arch NAME, one of {', '.join(found)}"
    )


def candidates(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of all architectures whose sizes do not contradict these tensors', in open_clip's order."""
    from tuwen.models.openclip import import_open_clip

    open_clip = import_open_clip()
    found = _of_tensors(tensors)
    names: list[str] = open_clip.list_models()
    return [name for name in names if _agree(found, _of_config(open_clip.get_model_config(name)))]


def _agree(found: Sizes, said: Sizes) -> bool:
    """Nothing differs, and both or neither are Vision Transformers of CLIP's own kind."""
    same = all(found[key] == said[key] for key in found.keys() & said.keys())
    return same and ("patch" in found) == ("patch" in said) and ("text_layers" in found) == ("text_layers" in said)


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
