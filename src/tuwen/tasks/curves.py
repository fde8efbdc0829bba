"""Throughput over the batch size, drawn: a plot for pictures and one for texts.

Knows matplotlib (the extra `plot`). Does not know how anything was measured.
"""

from collections.abc import Sequence
from pathlib import Path

from tuwen.extras import require
from tuwen.tasks.bench import Row

_TITLES = {"image": "pictures a second", "text": "texts a second"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")  # the colour-blind, too
_MARKS = "osD^vPX"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write a picture with a line for each contender, in the format of the file's ending.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    parts = [part for part in _TITLES if any(row.part == part for row in rows)]
    names = list(dict.fromkeys(f"{row.runtime} {row.precision}" for row in rows))
    figure = Figure(figsize=(0.6 + 4.4 * len(parts), 3.6), layout="constrained")
    for place, part in enumerate(parts, start=1):
        axes = figure.add_subplot(1, len(parts), place)
        for number, name in enumerate(names):
            chosen = [row for row in rows if row.part == part and f"{row.runtime} {row.precision}" == name]
            (line,) = axes.plot([row.batch for row in chosen], [row.per_second for row in chosen], label=name)
            line.set_color(_COLOURS[number % len(_COLOURS)])
            line.set_marker(_MARKS[number % len(_MARKS)])
        batches = sorted({row.batch for row in rows if row.part == part})
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, labels=list(map(str, batches)))
        axes.set_ylim(bottom=0)
        axes.set_title(_TITLES[part], loc="left", fontsize=11)
        axes.set_xlabel("batch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(file, dpi=110)
