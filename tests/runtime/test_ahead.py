import time

import pytest

from tuwen.runtime.pipeline import ahead, grouped, threads


def test_results_keep_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 5 == 0 else 0)
        return number * 2

    with threads(4) as pool:
        assert list(ahead(pool, slow_first, range(40), early=8)) == [2 * number for number in range(40)]


def test_only_so_many_are_begun_before_they_are_taken() -> None:
    drawn = []

    def draw():
        for number in range(100):
            drawn.append(number)
            yield number

    with threads(4) as pool:
        results = ahead(pool, int, draw(), early=5)
        next(results)
        assert len(drawn) == 6
        next(results)
        assert len(drawn) == 7


def test_an_error_of_a_stage_comes_out_in_its_place() -> None:
    def fails_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with threads(2) as pool:
        results = ahead(pool, fails_at_three, range(10), early=4)
        assert [next(results), next(results), next(results)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)


def test_leaving_early_drops_what_has_not_begun() -> None:
    begun = []

    def slow(number: int) -> None:
        begun.append(number)
        time.sleep(0.1)

    with threads(1) as pool:
        for number in range(5):
            pool.submit(slow, number)
    assert len(begun) < 5


def test_groups_are_of_one_size_but_the_last() -> None:
    assert list(grouped(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(grouped([], 3)) == []
