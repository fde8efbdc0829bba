"""How many operations a model's towers take for given pictures and texts. Knows bundles; times nothing."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.graph import read_graph
from tuwen.bundle.layout import Tower
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.products import counter

if TYPE_CHECKING:
    from tuwen.tasks.bench import Flops


def counted(bundle: Bundle) -> "Flops":
    """What counts the products of a bundle's best files, each text at its own length.

    None where OpenVINO is not there, or cannot give the graph such a shape: it has fixed ones.
    """

    @lru_cache
    def counter_of(tower: Tower) -> Callable[[int], int]:
        graph = bundle.graphs[tower, bundle.precisions[0]]
        names, count = [port.name for port in read_graph(graph).inputs], counter(graph)
        size = bundle.manifest.image.size
        return lambda length: count(dict.fromkeys(names, (1, 3, *size) if tower == "vision" else (1, length)))

    @lru_cache
    def of_one(tower: Tower, length: int) -> int | None:
        try:
            return counter_of(tower)(length)
        except (RuntimeError, RuntimeUnavailable):
            return None

    def count(tower: Tower, lengths: Sequence[int]) -> float | None:
        if tower == "vision":
            one = of_one("vision", 0)
            return None if one is None else float(one * lengths[0])
        each = [of_one("text", length) for length in lengths]
        known = [number for number in each if number is not None]
        return float(sum(known)) if len(known) == len(each) else None

    return count
