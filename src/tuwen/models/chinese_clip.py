"""Chinese-CLIP as its authors publish it: one `.pt` of a Vision Transformer and a BERT, by names of their own.

Knows the published architectures, which a file does not state but its shapes tell, and how its names become those
of transformers' Chinese-CLIP, which computes the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput, require
from tuwen.models.checkpoints import read_tensors
from tuwen.models.openclip_weights import State, depth, vision_state
from tuwen.models.sources import Contents
from tuwen.models.tokenizers import import_transformers, wordpieces
from tuwen.models.towers import Towers
from tuwen.models.transformers import Pictures, build, configured, processed_by, texts_of, towers_of

# ---- Chinese-CLIP's RN50: the ResNet that open_clip defines beside the BERT that transformers defines.

RESNET = 0
"""Stands for the side of a patch where there is none."""
_SHRINKS = 32
"""How many pixels of a side make one of the last feature map's."""


class Joined(torch.nn.Module):
    """The two towers with what joins them, under the names that transformers' Chinese-CLIP has for its own."""

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
    """Width, blocks in all, and the side of a picture in pixels."""
    grid = int((len(state["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    return len(state["visual.conv3.weight"]), sum(_stages(state)), grid * _SHRINKS


def with_resnet(config: Mapping[str, Any], state: Mapping[str, torch.Tensor], name: str) -> Joined:
    """Both towers with the checkpoint's weights, in fp32.

    Args:
        config: as `config.json` of transformers' Chinese-CLIP; what it says of an image tower is left out.
        state: the weights by the authors' names.
        name: for messages.

    Raises:
        InvalidInput: a tensor is missing, of another shape, or belongs nowhere.
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


# ---- Chinese-CLIP as its authors publish it

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD = 64
"""How wide a head of attention is, in all of them but one."""
_WIDE_HEADS = {1280: 80}
"""The exception, by the width of the image tower: that of ViT-H-14."""

_TABLES = "bert.embeddings."


@dataclass(frozen=True, slots=True)
class Sizes:
    """What tells the architectures apart: width and layers of both towers, sides of a picture and of a patch.

    A ResNet has blocks for layers, and no patch (`RESNET`).
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
"""The published ones: github.com/OFA-Sys/Chinese-CLIP, `cn_clip/clip/model_configs`."""


def load(weights: Path, arch: str | None = None) -> Towers:
    """Load a checkpoint.

    Args:
        weights: the `.pt`, of the authors' own training or of yours with their code.
        arch: which of `ARCHITECTURES` it must be; the shapes tell it without.

    Raises:
        InvalidInput: it is no such checkpoint, of another architecture than said, or could run code.
    """
    state = read_tensors(weights)
    if not _is_whole(state):
        raise InvalidInput(f"{weights} is no checkpoint of Chinese-CLIP: it lacks its towers' tensors")
    sizes = _sizes(state)
    name = next((name for name, known in ARCHITECTURES.items() if known == sizes), weights.stem)
    if arch not in (None, name):
        raise InvalidInput(f"{weights} is {name}, not {arch}: leave --arch out, or give the other file")
    words = wordpieces(_vocabulary(weights, len(state[f"{_TABLES}word_embeddings.weight"])))
    source, pictures = f"chinese-clip:{name}", _pictures(sizes.image)
    if sizes.patch == RESNET:
        joined = with_resnet(_config(sizes, state), state, str(weights))
        return towers_of(joined, source, pictures, texts_of(words, joined.config), joined.visual)
    model = build(_config(sizes, state), _renamed(state), str(weights))
    return towers_of(model, source, pictures, texts_of(words, model.config))


def is_here(contents: Contents) -> bool:
    """Whether this is a checkpoint by the authors' names."""
    return _is_whole(contents.tensors)


def _vocabulary(weights: Path, words: int) -> list[str]:
    """BERT's for Chinese, which all of them share. One of its words is a line separator to Python."""
    vocabulary = Path(__file__).with_name("chinese_clip_vocab.txt").read_text(encoding="utf-8").strip("\n").split("\n")
    if len(vocabulary) != words:
        raise InvalidInput(f"{weights} knows {words} words, and Chinese-CLIP's vocabulary has {len(vocabulary)}")
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
    """As `config.json` of transformers' Chinese-CLIP."""
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
    """By transformers' names; BERT's own pooling, which the authors do not use, is left out."""
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
