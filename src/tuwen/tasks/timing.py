"""Contenders that take turns, so that whatever else the machine does hits all of them alike.

A ratio of two of them is the median of the rounds' own ratios. Knows clocks; does not know what is timed.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

Steps: TypeAlias = tuple[float, ...]
"""Seconds that each step of one call took."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: about so long for all contenders of a case together.
        least: but at least so many rounds.
        most: and at most so many.
        pause: seconds before each turn: some thread pools go on spinning for a while after their work is done.
    """

    seconds: float
    least: int
    most: int
    pause: float = 0.0

    def rounds(self, first: float) -> int:
        """How many rounds, if the first took so many seconds."""
        return max(self.least, min(self.most, math.ceil(self.seconds / max(first, 1e-6))))


@dataclass(frozen=True, slots=True)
class Timing:
    """One step of one contender, round by round, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the rounds took longer."""
        return self.percentile(50)

    def percentile(self, percent: float) -> float:
        """So many percent of the rounds took no longer."""
        return float(np.percentile(self.seconds, percent))

    def times(self, other: "Timing") -> float:
        """How many times as fast as another contender of the same rounds."""
        return float(np.median(np.divide(other.seconds, self.seconds)))


def take_turns(calls: Mapping[K, Callable[[int], Steps]], effort: Effort) -> dict[K, tuple[Timing, ...]]:
    """Let each contender run once a round, after a round that is not counted.

    Args:
        calls: given the round's number, each does its work and returns what its steps took.
        effort: how many rounds.

    Returns:
        A timing for each step of each contender.
    """
    for call in calls.values():
        call(0)  # loads, compiles and touches what the first call does
    start = time.perf_counter()
    taken = {name: [_turn(call, 1, effort.pause)] for name, call in calls.items()}
    for number in range(2, effort.rounds(time.perf_counter() - start) + 1):
        for name, call in calls.items():
            taken[name].append(_turn(call, number, effort.pause))
    return {name: tuple(map(Timing, zip(*rounds, strict=True))) for name, rounds in taken.items()}


def _turn(call: Callable[[int], Steps], number: int, pause: float) -> Steps:
    time.sleep(pause)
    return call(number)
