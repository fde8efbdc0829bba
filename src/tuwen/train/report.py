"""A run on one page: what it was, what came of it, and its curves as a picture. Knows the run's log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuwen.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = "curves.png"
PAGE = "report.md"
_STEP_FIGURES = {"loss": "loss", "lr": "learning rate", "scale": "scale of the cosines"}


def write_report(output: Path, name: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, object]) -> Path:
    """Write `report.md` and `curves.png` into a run's folder; returns the page.

    Args:
        output: the folder.
        name: what the model is called.
        rows: the log's lines, in order.
        facts: what else is worth telling.
    """
    steps = [row for row in rows if "loss" in row]
    measured = [row for row in rows if "loss" not in row]
    _draw(output / CURVES, steps, measured)
    lines = [f"# {name}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    if measured:
        names = _names(measured)
        lines += ["", f"| step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for row in measured:
            figures = (f"{row[name]:.4f}" if name in row else "" for name in names)
            lines.append(f"| {row['step']} | {' | '.join(figures)} |")
    page = output / PAGE
    page.write_text("\n".join([*lines, "", f"![curves]({CURVES})", ""]), encoding="utf-8")
    return page


def _names(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every figure that was ever measured: a run that goes on may measure others than before."""
    return [name for name in dict.fromkeys(name for row in measured for name in row) if name != "step"]


def _draw(path: Path, steps: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> None:
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2).flat
    for axis, (key, title) in zip(axes, _STEP_FIGURES.items(), strict=False):
        axis.plot([row["step"] for row in steps], [row[key] for row in steps], color="#2b6cb0", linewidth=1.3)
        _dress(axis, title)
    last = axes[3]
    for name in _names(measured):
        rows = [row for row in measured if name in row]
        last.plot([row["step"] for row in rows], [row[name] for row in rows], label=name, marker=".")
    _dress(last, "measured" if measured else "nothing was measured")
    if measured:
        last.set_ylim(0, 1.02)
        last.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        last.set_axis_off()
    figure.savefig(path, dpi=110)


def _dress(axis: "Axes", title: str) -> None:
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlabel("step", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
