"""Turns: who runs when, how often, and what is made of the seconds."""

import pytest

from tuwen.bench.bench import Effort, Timing, take_turns


def test_contenders_run_in_turn_after_a_round_that_is_not_counted() -> None:
    ran: list[tuple[str, int]] = []

    def call(name: str, seconds: float):
        def run(turn: int) -> tuple[float, float]:
            ran.append((name, turn))
            return turn * seconds, seconds

        return run

    taken = take_turns({"a": call("a", 1.0), "b": call("b", 2.0)}, Effort(seconds=0, least=3, most=9))
    assert ran == [(name, turn) for turn in range(4) for name in "ab"]
    assert taken["a"] == (Timing((1.0, 2.0, 3.0)), Timing((1.0, 1.0, 1.0)))
    assert taken["b"][0].seconds == (2.0, 4.0, 6.0)


def test_as_many_rounds_as_fit_within_bounds() -> None:
    effort = Effort(seconds=10, least=3, most=20)
    assert [effort.rounds(first) for first in (100, 1, 2.5, 0.001, 0)] == [3, 10, 4, 20, 20]


def test_percentiles_and_ratios_are_of_rounds() -> None:
    ours, theirs = Timing((1.0, 2.0, 3.0, 4.0, 100.0)), Timing((2.0, 4.0, 6.0, 4.0, 100.0))
    assert ours.median == 3
    assert ours.percentile(95) == pytest.approx(80.8)
    assert ours.times(theirs) == 2  # the median of 2, 2, 2, 1, 1: a slow round that hits both does not count
