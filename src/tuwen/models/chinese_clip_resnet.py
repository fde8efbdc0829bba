"""Chinese-CLIP's RN50: the ResNet that open_clip defines beside the BERT that transformers defines.

Knows how the shapes of such a checkpoint tell its sizes. Does not know files or tokenizers.
"""

from collections.abc import Mapping
from typing import Any

import torch

from tuwen.errors import InvalidInput
from tuwen.extras import require
from tuwen.models.clip_names import depth
from tuwen.models.tokenizers import import_transformers
from tuwen.models.transformers_parts import configured

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


def _below(
    state: Mapping[str, torch.Tensor], prefix: str, without: tuple[str, ...] = ()
) -> dict[str, torch.Tensor]:
    inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in inner.items() if not name.startswith(without)}
