"""Scores of queries with and without a match, drawn, with the threshold between them.

Knows matplotlib (the extra `plot`). Does not know what was asked: no query's text is drawn, so no font is missed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuwen.extras import require
from tuwen.index.calibration import QueryKind, Threshold
from tuwen.tasks.calibrate import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES: dict[QueryKind, str] = {"text": "queries that are texts", "image": "queries that are pictures"}
_BINS = 40
_MATCH, _NONE, _LINE = "#0072b2", "#d55e00", "#222222"  # told apart by the colour-blind, too


def draw(measured: Mapping[QueryKind, Samples], chosen: Mapping[QueryKind, Threshold], file: Path) -> None:
    """Write a picture with a plot for each kind of query that has a threshold, in the format of the file's ending.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 + 2.6 * len(chosen)), layout="constrained")
    for place, (kind, it) in enumerate(chosen.items(), start=1):
        axes = figure.add_subplot(len(chosen), 1, place)
        _histograms(axes, measured[kind], it.threshold)
        axes.set_title(_TITLES[kind], loc="left", fontsize=11)
    axes.set_xlabel("score: the cosine of the best hit, or of the match where there is one")
    figure.savefig(file, dpi=110)


def _histograms(axes: "Axes", measured: Samples, threshold: float) -> None:
    everything = np.concatenate([measured.matching, measured.unmatching, [threshold]])
    edges: list[float] = np.linspace(everything.min() - 0.01, everything.max() + 0.01, _BINS + 1).tolist()
    for scores, name, colour in (
        (measured.unmatching, "nothing matches", _NONE),
        (measured.matching, "something matches", _MATCH),
    ):
        if len(scores):
            weights = np.full(len(scores), 100 / len(scores))
            axes.hist(scores, edges, weights=weights, label=f"{name} ({len(scores)})", color=colour, alpha=0.65)
    axes.axvline(threshold, color=_LINE, linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set_ylabel("% of queries")
    axes.legend(frameon=False, fontsize=9)
    axes.set_ylim(top=1.4 * axes.get_ylim()[1])  # room for the legend
    axes.spines[["top", "right"]].set_visible(False)
