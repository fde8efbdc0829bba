"""The two towers and the scale as one module to train: pixels and tokens in, unit vectors out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import log
from typing import Any, Literal, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.checkpoint import state_dict as whole
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tuwen.bundle.manifest import Scoring
from tuwen.data.pixels import to_pixels
from tuwen.errors import InvalidInput
from tuwen.models.sources import build
from tuwen.models.towers import Towers, cut_is_exact
from tuwen.models.trained import Recipe
from tuwen.training.config import ImageChanges, TrainConfig
from tuwen.training.distributed import together
from tuwen.training.loss import Vectors
from tuwen.types import Pixels

# Parameters that belong after the blocks, though the module that holds the blocks registers them first.
_HEAD = re.compile(r"(^|\.)proj$|(^|\.)((visual|text|image)_projection|head|pooler)(\.|$)")


def blocks(tower: nn.Module) -> list[nn.Module]:
    """The repeated units of a tower (transformer layers, residual units), from its inputs to its outputs.

    These are the members of its innermost stacks: lists of two or more modules of one class that have submodules. A
    tower with several stages has the blocks of all stages, in the order of registration.
    """
    stacks = [module for module in tower.modules() if _is_stack(module)]
    inner = [stack for stack in stacks if not any(_is_stack(part) for part in _parts(stack))]
    return list(chain.from_iterable(stack.children() for stack in inner))


@dataclass(frozen=True, slots=True)
class Placed:
    """A parameter of a tower with its depth.

    Attributes:
        name: its name within the tower.
        owner: the module that holds it.
        parameter: the parameter itself.
        depth: 0 before the blocks (embeddings), i in block i counted from 1, and n + 1 after the last of n blocks
            (norms, projections, heads). Between two stages: the depth of the next block.
    """

    name: str
    owner: nn.Module
    parameter: nn.Parameter
    depth: int


def placed(tower: nn.Module) -> Iterator[Placed]:
    """Yield every parameter of a tower once, in the order of registration."""
    stack = blocks(tower)
    inside = {part: depth for depth, block in enumerate(stack, start=1) for part in block.modules()}
    end = len(stack) + 1
    reached, seen = 0, set[nn.Parameter]()
    for path, module in tower.named_modules():
        reached = max(reached, inside.get(module, 0))
        for key, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{key}" if path else key
            if parameter not in seen:
                seen.add(parameter)
                yield Placed(name, module, parameter, inside.get(module) or _outside(name, reached, end))


def _outside(name: str, reached: int, end: int) -> int:
    """The depth of a parameter that is in no block."""
    if reached == end - 1 > 0 or _HEAD.search(name):
        return end
    return reached + 1 if reached else 0


def _is_stack(module: nn.Module) -> bool:
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return False
    children = list(module.children())
    alike = len(children) > 1 and len({type(child) for child in children}) == 1
    return alike and all(
        next(child.children(), None) is not None and next(child.parameters(), None) is not None for child in children
    )


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if part is not module)


Lock: TypeAlias = int | Literal["all"]
"""0: the whole tower is trained; n: its embeddings and first n blocks are frozen; `all`: the whole tower is frozen."""

_OF_A_RUN = re.compile(r"@|^trained_|^acc\d+$")
_WHOLE = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)
_FRESH = {"infonce": (1 / 0.07, None), "siglip": (10.0, -10.0)}  # the initial values of CLIP's and SigLIP's papers
_KINDS = {"softmax": "infonce", "sigmoid": "siglip"}


_TEXTS = (
    "",
    "a",
    "two dogs",
    "一只狗在草地上奔跑",
    "ein Fahrrad steht vor einem roten Haus",
    "a photo of a small brown dog that runs over wet grass with a yellow ball in its mouth, seen from the side",
)
"""texts of many lengths, to compare truncated with padded texts"""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of both towers: pixels (n, 3, h, w) float32; ids and mask (n, l) int64."""

    pixels: Tensor
    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, first: int, last: int) -> "Inputs":
        """The rows from `first` up to but not including `last`."""
        return Inputs(self.pixels[first:last], self.ids[first:last], self.mask[first:last])


class Pair(nn.Module):
    """Two towers in training.

    Attributes:
        vision: the image tower, the same module as in the `Towers`.
        text: the text tower, the same module as in the `Towers`.
        log_scale: (1,), the logarithm of the factor for the cosines.
        bias: (1,), added to the scaled cosines for the sigmoid loss; otherwise None.
        largest: the largest allowed scale.
    """

    def __init__(self, towers: Towers, loss: Literal["infonce", "siglip"], max_scale: float | None) -> None:
        """Start from a checkpoint's towers and scale.

        Args:
            towers: the towers, which are trained in place.
            loss: decides whether there is a bias. If it differs from the towers' scoring, scale and bias start with the
                values of its paper.
            max_scale: the largest allowed scale; None: 100, or the initial scale if that is larger.
        """
        super().__init__()
        self.vision, self.text = towers.vision, towers.text
        self._masked = towers.text_spec.mask
        self._locked: list[nn.Module] = []
        scale, bias = _beginning(towers.scoring, loss)
        if max_scale is not None and scale > max_scale:
            raise InvalidInput(
                f"{towers.name} starts with a scale of {scale:g}, above loss.max_scale={max_scale:g}: raise it",
                value=max_scale,
                where="loss.max_scale",
                hint=f"raise it to at least {scale:g}",
            )
        self.largest = max(100.0, scale) if max_scale is None else max_scale
        self.log_scale = nn.Parameter(torch.tensor([log(scale)]))
        self.bias = None if bias is None else nn.Parameter(torch.tensor([bias]))

    def forward(self, inputs: Inputs) -> Vectors:
        """Unit vectors in fp32, whatever the towers compute in."""
        ids = (inputs.ids, inputs.mask) if self._masked else (inputs.ids,)
        return Vectors(
            images=functional.normalize(self.vision(inputs.pixels).float(), dim=-1),
            texts=functional.normalize(self.text(*ids).float(), dim=-1),
            scale=self.log_scale.exp().sum(),
            bias=None if self.bias is None else self.bias.sum(),
        )

    def clamp(self) -> None:
        """Clamp the scale to between 1 and `largest`; called after each step."""
        with torch.no_grad():
            self.log_scale.clamp_(0.0, log(self.largest))

    def lock(self, *, vision: Lock = 0, text: Lock = 0) -> None:
        """Freeze parts of the towers: no gradients, and eval mode (no dropout)."""
        for name, tower, wanted in (("vision", self.vision, vision), ("text", self.text, text)):
            self._locked += _lock(name, tower, wanted)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Pair":
        """Switch to training mode, except for locked parts."""
        super().train(mode)
        for module in self._locked:
            module.eval()
        return self

    def leave_out_unreached(self, inputs: Inputs) -> None:
        """Freeze parameters that no gradient reaches (an unused pooler), for which processes would wait."""
        self.eval()
        vectors = self(inputs)
        (vectors.images.sum() + vectors.texts.sum() + vectors.scale).backward()
        for name, parameter in self.named_parameters():
            if parameter.grad is None and name != "bias":
                parameter.requires_grad_(False)
        self.zero_grad()
        self.train()

    def checkpoint_blocks(self) -> None:
        """Enable activation checkpointing: only the inputs of blocks are kept, the rest is recomputed."""
        for block in (*blocks(self.vision), *blocks(self.text)):
            block.forward = partial(_again, block, block.forward)

    def keep_blocks(self) -> None:
        """Undo `checkpoint_blocks`, before an export that must see the original modules."""
        for block in (*blocks(self.vision), *blocks(self.text)):
            block.__dict__.pop("forward", None)


def _again(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (any block's)
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return forward(*args, **kwargs)


def _beginning(scoring: Scoring, loss: str) -> tuple[float, float | None]:
    if _KINDS[scoring.kind] != loss:
        return _FRESH[loss]
    return scoring.scale, scoring.bias if loss == "siglip" else None


def _lock(name: str, tower: nn.Module, wanted: Lock) -> Sequence[nn.Module]:
    """Take the gradients from a tower's first parts; the modules that are locked as a whole.

    Raises:
        InvalidInput: it has fewer blocks than are to be locked.
    """
    if wanted == 0:
        return []
    if wanted == "all":
        tower.requires_grad_(False)
        return [tower]
    stack = blocks(tower)
    if wanted > len(stack):
        hint = f"lock at most {len(stack)}, or all"
        message = f"{wanted} blocks cannot be locked: the {name} tower has {len(stack)}; {hint}"
        raise InvalidInput(message, value=wanted, where="model.lock_image" if name == "vision" else "model.lock_text")
    for item in placed(tower):
        if item.depth <= wanted:
            item.parameter.requires_grad_(False)
    return stack[:wanted]


def beginning(config: TrainConfig) -> tuple[Recipe, Towers]:
    """Build the towers with which a run starts, and the recipe for building them again.

    Raises:
        InvalidInput: the source cannot be used.
    """
    model = config.model
    recipe = Recipe(
        source=model.source,
        weights=model.weights.resolve() if model.weights else None,
        arch=model.arch,
        scratch=model.scratch,
        seed=config.run.seed if model.seed is None else model.seed,
        overrides=model.overrides,
    )
    towers = with_image(build(recipe), model.image)
    exact = cut_is_exact(towers.text, towers.to_tokens(_TEXTS), mask=towers.text_spec.mask)
    text_spec = towers.text_spec.model_copy(update={"cut_exact": exact})
    return recipe, replace(towers, text_spec=text_spec, facts=_lasting(towers))


def _lasting(towers: Towers) -> dict[str, str | int | float | bool]:
    """The facts that remain true after further training; metrics and length of an earlier run do not."""
    return {name: value for name, value in towers.facts.items() if not _OF_A_RUN.search(name)}


def with_image(towers: Towers, changes: ImageChanges) -> Towers:
    """Apply changes to the image preprocessing of a model; the exported bundle records them."""
    changed = changes.model_dump(exclude_none=True)
    if not changed:
        return towers
    spec = type(towers.image_spec).model_validate(towers.image_spec.model_dump() | changed)

    def prepared(images: Sequence[Image.Image]) -> Pixels:
        return to_pixels(spec, images)

    return replace(towers, image_spec=spec, to_pixels=prepared)


def wrapped(pair: Pair, device: torch.device, *, sharded: bool) -> nn.Module:
    """Wrap the pair for training in several processes.

    Args:
        pair: the pair, on its device.
        device: that device.
        sharded: whether every process keeps only a part of the weights, gradients and optimiser states of each block.

    Raises:
        InvalidInput: sharded, but there is only one process.
    """
    if sharded:
        if not dist.is_initialized():
            hint = "start several processes with torchrun, or leave it out"
            raise InvalidInput(f"run.fsdp needs several processes: {hint}", where="run.fsdp", hint=hint)
        for block in (*blocks(pair.vision), *blocks(pair.text)):
            fully_shard(block)
        fully_shard(pair)
        return pair
    return together(pair, device)


def states(pair: Pair, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The full weights and optimiser states (on the CPU if sharded); every process must call it."""
    if isinstance(pair, FSDPModule):
        return (
            whole.get_model_state_dict(pair, options=_WHOLE),
            whole.get_optimizer_state_dict(pair, optimizer, options=_WHOLE),
        )
    return pair.state_dict(), optimizer.state_dict()


def load_states(pair: Pair, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]) -> None:
    """Restore the result of `states`."""
    if isinstance(pair, FSDPModule):
        whole.set_model_state_dict(pair, weights, options=_WHOLE)
        whole.set_optimizer_state_dict(pair, optimizer, moments, options=_WHOLE)
    else:
        pair.load_state_dict(weights)
        optimizer.load_state_dict(moments)
