"""Chinese-CLIP as its authors publish it: one `.pt` file of a Vision Transformer or ResNet and a BERT.

The file does not name its architecture, which is inferred from the shapes of its tensors. Weights are renamed for
transformers' Chinese-CLIP, which computes the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput, require
from tuwen.models.checkpoints import Inspection, read_tensors
from tuwen.models.openclip_weights import State, depth, vision_state
from tuwen.models.torchvision import import_transformers
from tuwen.models.towers import Towers
from tuwen.models.transformers import Pictures, build, configured, processed_by, texts_of, towers_of, wordpieces

RESNET = 0
"""stands for the patch size of a ResNet, which has no patches"""
_SHRINKS = 32
"""pixels of the image per pixel of the last feature map, along a side"""


class Joined(torch.nn.Module):
    """The two towers with their projection and scale, under the names of transformers' Chinese-CLIP."""

    def __init__(self, config: Any, visual: torch.nn.Module, text: torch.nn.Module, state: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.config = config
        self.visual = visual
        self.text_model = text
        projection = state["text_projection"].float().T
        self.text_projection = torch.nn.Linear(projection.shape[1], projection.shape[0], bias=False)
        self.text_projection.weight.data.copy_(projection)
        self.logit_scale = torch.nn.Parameter(state["logit_scale"].float())


def is_resnet(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the image tower is a ResNet."""
    return "visual.layer1.0.conv1.weight" in state


def resnet_sizes(state: Mapping[str, torch.Tensor]) -> tuple[int, int, int]:
    """Width, number of blocks, and image size in pixels."""
    grid = int((len(state["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    return len(state["visual.conv3.weight"]), sum(_stages(state)), grid * _SHRINKS


def with_resnet(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], name: str) -> Joined:
    """Both towers with the checkpoint's weights, in fp32.

    Args:
        config: as in `config.json` of transformers' Chinese-CLIP; its image tower is ignored.
        state: the weights with the authors' names.
        name: the name for messages.

    Raises:
        InvalidInput: a tensor is missing, unexpected, or has another shape.
    """
    require("open_clip", extra="export")
    from open_clip.modified_resnet import ModifiedResNet

    transformers = import_transformers()
    towerless = {key: value for key, value in config.items() if key != "vision_config"}
    made = configured(towerless, name)
    width, _, side = resnet_sizes(state)
    dim, heads = state["text_projection"].shape[1], width * _SHRINKS // 64
    visual = ModifiedResNet(_stages(state), dim, heads, image_size=side, width=width)
    text = transformers.ChineseCLIPTextModel(made.text_config, add_pooling_layer=False)
    try:
        visual.load_state_dict(_below(state, "visual."))
        text.load_state_dict(_below(state, "bert.", without=("pooler.", "embeddings.position_ids")))
    except RuntimeError as error:
        raise InvalidInput(f"the weights of {name} do not fit it: {' '.join(str(error).split())[:200]}") from error
    return Joined(made, visual, text, state).eval()


def _stages(state: Mapping[str, torch.Tensor]) -> list[int]:
    """How many blocks each of the four stages has."""
    return [depth(state, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)]


def _below(state: Mapping[str, torch.Tensor], prefix: str, without: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in inner.items() if not name.startswith(without)}


MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD = 64
"""the width of an attention head, in all of them but one"""
_WIDE_HEADS = {1280: 80}
"""the exception, by the width of the image tower: ViT-H-14"""

_TABLES = "bert.embeddings."


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that distinguish the architectures: width and layers of both towers, image and patch size.

    A ResNet has blocks instead of layers, and no patches (`RESNET`).
    """

    width: int
    layers: int
    image: int
    patch: int
    text_width: int
    text_layers: int


ARCHITECTURES = {
    "ViT-B-16": Sizes(768, 12, 224, 16, 768, 12),
    "ViT-L-14": Sizes(1024, 24, 224, 14, 768, 12),
    "ViT-L-14-336": Sizes(1024, 24, 336, 14, 768, 12),
    "ViT-H-14": Sizes(1280, 32, 224, 14, 1024, 24),
    "RN50": Sizes(64, 16, 224, RESNET, 768, 3),
}
"""the published architectures: github.com/OFA-Sys/Chinese-CLIP, `cn_clip/clip/model_configs`"""


def load(weights: Path, arch: str | None = None) -> Towers:
    """Load a checkpoint.

    Args:
        weights: the `.pt` file, of the authors' own training or of yours with their code.
        arch: the architecture that it must have, one of `ARCHITECTURES`; by default it is inferred from the shapes.

    Raises:
        InvalidInput: it is not such a checkpoint, is of another architecture than `arch`, or could run code.
    """
    state = read_tensors(weights)
    if not _is_whole(state):
        raise InvalidInput(
            f"{weights} is not a checkpoint of Chinese-CLIP: it lacks tensors of the towers", where=weights
        )
    sizes = _sizes(state)
    name = next((name for name, known in ARCHITECTURES.items() if known == sizes), weights.stem)
    if arch not in (None, name):
        raise InvalidInput(
            f"{weights} is {name}, not {arch}; leave --arch out, or give the other file", value=arch, where=weights
        )
    words = wordpieces(_vocabulary(weights, len(state[f"{_TABLES}word_embeddings.weight"])))
    source, pictures = f"chinese-clip:{name}", _pictures(sizes.image)
    if sizes.patch == RESNET:
        joined = with_resnet(_config(sizes, state), state, str(weights))
        return towers_of(joined, source, pictures, texts_of(words, joined.config), joined.visual)
    model = build(_config(sizes, state), _renamed(state), str(weights))
    return towers_of(model, source, pictures, texts_of(words, model.config))


def recognises(found: Inspection) -> bool:
    """Whether this is a checkpoint with the authors' names."""
    return _is_whole(found.tensors)


def _vocabulary(weights: Path, words: int) -> list[str]:
    """BERT's vocabulary for Chinese, shared by all architectures; one of its tokens is a line separator in Python."""
    vocabulary = Path(__file__).with_name("chinese_clip_vocab.txt").read_text(encoding="utf-8").strip("\n").split("\n")
    if len(vocabulary) != words:
        raise InvalidInput(
            f"{weights} has {words} tokens, but Chinese-CLIP's vocabulary has {len(vocabulary)}",
            value=words,
            where=weights,
        )
    return vocabulary


def _is_whole(state: Mapping[str, torch.Tensor]) -> bool:
    return f"{_TABLES}word_embeddings.weight" in state and "visual.conv1.weight" in state


def _sizes(state: Mapping[str, torch.Tensor]) -> Sizes:
    text = (len(state["text_projection"]), depth(state, "bert.encoder.layer."))
    if is_resnet(state):
        return Sizes(*resnet_sizes(state), RESNET, *text)
    width, _, patch, _ = state["visual.conv1.weight"].shape
    side = int((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    return Sizes(width, depth(state, "visual.transformer.resblocks."), side * patch, patch, *text)


def _config(sizes: Sizes, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The configuration as in `config.json` of transformers' Chinese-CLIP."""
    words, positions, types = (
        len(state[f"{_TABLES}{name}_embeddings.weight"]) for name in ("word", "position", "token_type")
    )
    return {
        "model_type": "chinese_clip",
        "projection_dim": state["text_projection"].shape[1],
        "vision_config": {
            "hidden_size": sizes.width,
            "intermediate_size": 4 * sizes.width,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.width // _WIDE_HEADS.get(sizes.width, HEAD),
            "image_size": sizes.image,
            "patch_size": sizes.patch,
            "hidden_act": "quick_gelu",
        },
        "text_config": {
            "vocab_size": words,
            "max_position_embeddings": positions,
            "type_vocab_size": types,
            "hidden_size": sizes.text_width,
            "intermediate_size": 4 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_width // HEAD,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
        },
    }


def _renamed(state: Mapping[str, torch.Tensor]) -> State:
    """Renamed for transformers, without BERT's pooling, which the authors do not use."""
    text = {
        f"text_model.{name.removeprefix('bert.')}": tensor
        for name, tensor in state.items()
        if name.startswith("bert.") and not name.startswith("bert.pooler.")
    }
    projection = {"text_projection.weight": state["text_projection"].T, "logit_scale": state["logit_scale"]}
    return vision_state(state) | text | projection


def _pictures(side: int) -> Pictures:
    """Squashed to a square, without a crop."""
    spec = ImageSpec(size=(side, side), resize="squash", crop_rounding="floor", mean=MEAN, std=STD)
    square = {"height": side, "width": side}
    processor = import_transformers().ChineseCLIPImageProcessorPil(
        size=square, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD)
    )
    return Pictures(spec, processed_by(processor))
