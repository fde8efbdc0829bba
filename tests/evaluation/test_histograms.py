import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuwen.errors import MissingExtra
from tuwen.evaluation.calibrate import Samples, draw
from tuwen.index.calibration import Threshold

RNG = np.random.default_rng(0)
NONE = np.array([])
MEASURED = {
    "text": Samples(np.sort(RNG.normal(0.3, 0.03, 100)), np.sort(RNG.normal(0.2, 0.03, 100))),
    "image": Samples(np.sort(RNG.normal(0.8, 0.03, 50)), NONE),
}
CHOSEN = {
    kind: Threshold(
        threshold=value, false_accept=None, false_reject=None, matching=1, unmatching=1, rows=9, created="now"
    )
    for kind, value in {"text": 0.25, "image": 0.75}.items()
}


def colours(file: Path) -> list[tuple[int, int, int]]:
    with Image.open(file) as image:
        return [colour for _, colour in image.convert("RGB").getcolors(10**6)]


def height(file: Path) -> int:
    with Image.open(file) as image:
        return image.height


def has(seen: list[tuple[int, int, int]], wanted: tuple[int, int, int]) -> bool:
    return any(max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) < 12 for colour in seen)


def test_both_kinds_of_scores_are_drawn(tmp_path: Path) -> None:
    match, none = (90, 162, 206), (227, 149, 90)  # as they look through their transparency
    draw(MEASURED, CHOSEN, tmp_path / "both.png")
    assert has(colours(tmp_path / "both.png"), match)
    assert has(colours(tmp_path / "both.png"), none)
    only = {"image": MEASURED["image"]}
    draw(only, {"image": CHOSEN["image"]}, tmp_path / "one.png")
    assert has(colours(tmp_path / "one.png"), match)
    assert not has(colours(tmp_path / "one.png"), none)
    assert height(tmp_path / "one.png") < height(tmp_path / "both.png")


def test_the_ending_says_the_format(tmp_path: Path) -> None:
    draw(MEASURED, CHOSEN, tmp_path / "scores.svg")
    assert "<svg" in (tmp_path / "scores.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra) as raised:
        draw(MEASURED, CHOSEN, tmp_path / "scores.png")
    assert raised.value.extra == "plot"
