import pytest

from tuwen.errors import InvalidInput
from tuwen.training.config_file import config_of
from tuwen.training.optimizer import Schedule, planned


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


def test_a_cooldown_is_a_line_at_the_end() -> None:
    course = Schedule(steps=100, warmup=10, start=0.0, peak=1e-3, end=2e-4, cooldown=40)
    assert [course.rate(step) for step in (10, 35, 60)] == [1e-3] * 3
    assert course.rate(80) == pytest.approx(6e-4)
    assert course.rate(100) == course.rate(120) == pytest.approx(2e-4)


LEAST = {"model": {"source": "openclip:ViT-B-32"}, "data": {"train": "x"}, "run": {"epochs": 10}}


def test_epochs_become_steps() -> None:
    settings = ["schedule={name: constant, warmup_epochs: 0.5, cooldown_epochs: 2}", "optimizer.accumulate=2"]
    course = planned(config_of(LEAST, settings), 21)
    assert (course.steps, course.warmup, course.cooldown) == (105, 5, 21)
    plain = planned(config_of(LEAST, ["schedule.name=constant", "schedule.eta_min=1e-9"]), 21)
    assert plain.rate(0) == plain.rate(105) == plain.rate(210) == 5e-4


def test_what_does_not_fit_into_the_run_is_refused() -> None:
    settings = ["schedule={name: constant, warmup_steps: 60, cooldown_steps: 60}", "run.epochs=1"]
    with pytest.raises(InvalidInput) as raised:
        planned(config_of(LEAST, settings), 100)
    assert (raised.value.value, raised.value.where) == (60, "schedule")
