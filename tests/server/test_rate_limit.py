import pytest

from tuwen.server import middleware
from tuwen.server.middleware import RateLimit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(middleware, "monotonic", lambda: now[0])
    return now


def test_a_burst_then_a_steady_pace(clock: list[float]) -> None:
    buckets = RateLimit(2.0, 3.0)
    for _ in range(3):
        assert buckets.wait("a") == 0
        buckets.take("a")
    assert buckets.wait("a") == pytest.approx(0.5)
    assert buckets.wait("b") == 0
    clock[0] += 0.5
    assert buckets.wait("a") == 0


def test_names_are_forgotten(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    monkeypatch.setattr(RateLimit, "NAMES", 2)
    buckets = RateLimit(0.001, 1.0)
    for name in ("a", "b", "c"):
        buckets.take(name)
    assert buckets.wait("a") == 0
    assert buckets.wait("b") > 0
