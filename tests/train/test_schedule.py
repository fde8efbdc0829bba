import pytest

from tuwen.train.schedule import Schedule


def test_up_from_the_start_then_down_to_the_end() -> None:
    course = Schedule(steps=110, warmup=10, start=1e-6, peak=5e-4, end=1e-5)
    assert course.rate(0) == 1e-6
    assert course.rate(5) == pytest.approx((1e-6 + 5e-4) / 2)
    assert course.rate(10) == pytest.approx(5e-4)
    assert course.rate(60) == pytest.approx((5e-4 + 1e-5) / 2)
    assert course.rate(110) == course.rate(500) == pytest.approx(1e-5)
    rates = [course.rate(step) for step in range(10, 111)]
    assert rates == sorted(rates, reverse=True)


def test_without_warm_up_it_begins_at_the_peak() -> None:
    assert Schedule(steps=10, warmup=0, start=0.0, peak=1e-3, end=0.0).rate(0) == 1e-3
