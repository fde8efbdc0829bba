"""The log of a run (lines, JSONL, TensorBoard) and its report with curves."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from tuwen.bundle.files import replace_text
from tuwen.errors import require
from tuwen.training.distributed import rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG = "log.jsonl"
BOARD = "tensorboard"


class Record:
    """The log of a run. Only the first process writes it.

    `log.jsonl` has a line for each step (`step, epoch, loss, lr, scale`) and one for each evaluation (`step` and
    the metrics).
    """

    def __init__(self, output: Path, steps: int, first: int, say: Callable[[str], None]) -> None:
        """Open the files.

        Args:
            output: the run's folder.
            steps: number of steps in the run.
            first: the step from which it continues; later entries in the files are dropped.
            say: called with each line to print.
        """
        self._quiet = rank() != 0
        if self._quiet:
            return
        self._say, self._steps = say, steps
        self._last = (first, monotonic())
        require("tensorboard", extra="train")
        from torch.utils.tensorboard import SummaryWriter

        _drop_after(output / LOG, first)
        self._file = (output / LOG).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(output / BOARD), purge_step=first + 1)

    def steps(self, rows: list[dict[str, float]], pairs: int) -> None:
        """Log steps, in order, of `pairs` pairs each."""
        if self._quiet or not rows:
            return
        for row in rows:
            self._write(row)
        last = rows[-1]
        step, now = int(last["step"]), monotonic()
        seconds = max(now - self._last[1], 1e-9) / max(step - self._last[0], 1)
        self._last = (step, now)
        left = timedelta(seconds=round((self._steps - step) * seconds))
        self._say(
            f"step {step:,}/{self._steps:,}  epoch {last['epoch']:.2f}  loss {last['loss']:.4f}  "
            f"lr {last['lr']:.2e}  scale {last['scale']:.2f}  {pairs / seconds:,.1f} pairs/s  left {left}"
        )
        self._board.add_scalar("rate", pairs / seconds, step)

    def measured(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the metrics of an evaluation after a step."""
        if self._quiet:
            return
        self._write({"step": step, **figures})
        self._say(f"step {step:,}: " + "  ".join(f"{name} {value:.4f}" for name, value in figures.items()))

    def resumed(self) -> None:
        """Restart the clock, so that the time of an evaluation does not count towards the speed of steps."""
        if not self._quiet:
            self._last = (self._last[0], monotonic())

    def close(self) -> None:
        """Close the files."""
        if not self._quiet:
            self._file.close()
            self._board.close()

    def _write(self, row: Mapping[str, float]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, int(row["step"]))


def read_log(output: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    lines = (output / LOG).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _drop_after(path: Path, step: int) -> None:
    """Drop the lines after a step, and an incomplete last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    replace_text(path, "".join(kept))


CURVES = "curves.png"
PAGE = "report.md"
_STEP_FIGURES = {"loss": "loss", "lr": "learning rate", "scale": "scale of the cosines"}


def write_report(output: Path, name: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, object]) -> Path:
    """Write `report.md` and `curves.png` into a run's folder; returns the page.

    Args:
        output: the folder.
        name: the model's name.
        rows: the log's lines, in order.
        facts: further facts for the table at the top.
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
    """All metrics that were ever measured; a resumed run may measure other ones."""
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
