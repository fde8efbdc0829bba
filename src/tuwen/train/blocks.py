"""Where a tower's blocks are, whatever its architecture: what locking, layer-wise decay and checkpointing count in.

Knows torch's containers and the order in which modules are registered. Does not know any family.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from torch import nn

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
        next(child.children(), None) is not None and next(child.parameters(), None) is not None
        for child in children
    )


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if part is not module)
