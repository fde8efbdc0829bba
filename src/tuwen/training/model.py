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

# What belongs after the blocks, though it is registered before them: parameters of the module that holds them.
_HEAD = re.compile(r"(^|\.)proj$|(^|\.)((visual|text|image)_projection|head|pooler)(\.|$)")


def blocks(tower: nn.Module) -> list[nn.Module]:
    """The repeated units of a tower, from its inputs to its outputs: transformer layers, residual units.

    They are the members of its innermost stacks: lists of two or more modules of one class, each with parts of its
    own. A tower of several stages has the blocks of all stages, in the order of their registration.
    """
    stacks = [module for module in tower.modules() if _is_stack(module)]
    inner = [stack for stack in stacks if not any(_is_stack(part) for part in _parts(stack))]
    return list(chain.from_iterable(stack.children() for stack in inner))


@dataclass(frozen=True, slots=True)
class Placed:
    """A parameter of a tower and where it lies.

    Attributes:
        name: within the tower.
        owner: the module that holds it.
        parameter: itself.
        depth: 0 for what comes before the blocks (embeddings), i for block i counted from 1, and n + 1 for what
            follows the last of n (norms, projections, heads). Between two stages: that of the block that follows.
    """

    name: str
    owner: nn.Module
    parameter: nn.Parameter
    depth: int


def placed(tower: nn.Module) -> Iterator[Placed]:
    """Every parameter of a tower, once, in the order of registration."""
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
"""0: a tower is trained; n: its embeddings and first n blocks are not; `all`: nothing of it is."""

_OF_A_RUN = re.compile(r"@|^trained_|^acc\d+$")
_WHOLE = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)
_FRESH = {"infonce": (1 / 0.07, None), "siglip": (10.0, -10.0)}  # as CLIP's and SigLIP's papers begin
_KINDS = {"softmax": "infonce", "sigmoid": "siglip"}


_TEXTS = (
    "",
    "a",
    "two dogs",
    "一只狗在草地上奔跑",
    "ein Fahrrad steht vor einem roten Haus",
    "a photo of a small brown dog that runs over wet grass with a yellow ball in its mouth, seen from the side",
)
"""of many lengths: what a cut text is compared on with a padded one"""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the towers take: pixels (n, 3, h, w) float32; ids and mask (n, l) int64."""

    pixels: Tensor
    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, first: int, last: int) -> "Inputs":
        """Some of them."""
        return Inputs(self.pixels[first:last], self.ids[first:last], self.mask[first:last])


class Pair(nn.Module):
    """Two towers in training.

    Attributes:
        vision: the tower of pictures, the very module of the `Towers` it was made from.
        text: the tower of texts, likewise.
        log_scale: (1,), the logarithm of what cosines are multiplied by.
        bias: (1,), what is added then, for the sigmoid loss; else None.
        largest: what the scale may be at most.
    """

    def __init__(self, towers: Towers, loss: Literal["infonce", "siglip"], max_scale: float | None) -> None:
        """Begin from a checkpoint's towers and scale.

        Args:
            towers: trained in place.
            loss: decides whether there is a bias. Of another kind than the towers' scoring, it begins with the
                scale and bias that its paper begins with.
            max_scale: what the scale may be at most; None: 100, or what it begins with if that is more.
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
        """Bring the scale back between 1 and `largest`, after a step."""
        with torch.no_grad():
            self.log_scale.clamp_(0.0, log(self.largest))

    def lock(self, *, vision: Lock = 0, text: Lock = 0) -> None:
        """Hold parts of the towers as they are: no gradients, and computed as in use (no dropout)."""
        for name, tower, wanted in (("vision", self.vision, vision), ("text", self.text, text)):
            self._locked += _lock(name, tower, wanted)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Pair":
        """Into training mode, but for what is locked."""
        super().train(mode)
        for module in self._locked:
            module.eval()
        return self

    def leave_out_unreached(self, inputs: Inputs) -> None:
        """Do not train what no gradient reaches (a pooler that nothing reads): processes would wait for its own."""
        self.eval()
        vectors = self(inputs)
        (vectors.images.sum() + vectors.texts.sum() + vectors.scale).backward()
        for name, parameter in self.named_parameters():
            if parameter.grad is None and name != "bias":
                parameter.requires_grad_(False)
        self.zero_grad()
        self.train()

    def checkpoint_blocks(self) -> None:
        """From now on, keep only what enters a block; compute the inside again when its gradients are needed."""
        for block in (*blocks(self.vision), *blocks(self.text)):
            block.forward = partial(_again, block, block.forward)

    def keep_blocks(self) -> None:
        """Undo `checkpoint_blocks`: before an export, which must see the modules as their authors wrote them."""
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
    """How the towers are made, and they.

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
    """The facts that remain true of towers that are trained on: not the metrics of an earlier run, nor its length."""
    return {name: value for name, value in towers.facts.items() if not _OF_A_RUN.search(name)}


def with_image(towers: Towers, changes: ImageChanges) -> Towers:
    """The model with its pictures prepared otherwise, if anything is to change; the bundle will say so."""
    said = changes.model_dump(exclude_none=True)
    if not said:
        return towers
    spec = type(towers.image_spec).model_validate(towers.image_spec.model_dump() | said)

    def prepared(images: Sequence[Image.Image]) -> Pixels:
        return to_pixels(spec, images)

    return replace(towers, image_spec=spec, to_pixels=prepared)


def wrapped(pair: Pair, device: torch.device, *, sharded: bool) -> nn.Module:
    """What to call in place of the pair.

    Args:
        pair: on its device.
        device: that.
        sharded: whether every process keeps only a part of the weights, gradients and moments of every block.

    Raises:
        InvalidInput: sharded, but there is one process alone.
    """
    if sharded:
        if not dist.is_initialized():
            raise InvalidInput("run.fsdp shares the weights among processes: start them with torchrun, or leave it out")
        for block in (*blocks(pair.vision), *blocks(pair.text)):
            fully_shard(block)
        fully_shard(pair)
        return pair
    return together(pair, device)


def states(pair: Pair, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and moments, whole, on the CPU where they are sharded; every process must call it."""
    if isinstance(pair, FSDPModule):
        return (
            whole.get_model_state_dict(pair, options=_WHOLE),
            whole.get_optimizer_state_dict(pair, optimizer, options=_WHOLE),
        )
    return pair.state_dict(), optimizer.state_dict()


def load_states(pair: Pair, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]) -> None:
    """Put back what `states` took."""
    if isinstance(pair, FSDPModule):
        whole.set_model_state_dict(pair, weights, options=_WHOLE)
        whole.set_optimizer_state_dict(pair, optimizer, moments, options=_WHOLE)
    else:
        pair.load_state_dict(weights)
        optimizer.load_state_dict(moments)
