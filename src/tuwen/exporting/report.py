"""A verification report in Markdown: a table of all checks, and a plot of how far the vectors are off."""

import math
from collections.abc import Sequence
from pathlib import Path

from tuwen.bundle.manifest import Check, Manifest, Report
from tuwen.errors import require
from tuwen.exporting.checks import WORST_COSINE

NAME = "VERIFY.md"
"""the report's name in a bundle; its plot has the same name with the extension `.png`"""

_STAGES = {"image": ("images", "o", "#0072b2"), "text": ("texts", "s", "#d55e00")}
_LEAST = 1e-8
"""smaller distances are drawn here, since the axis is logarithmic"""


def write_report(file: Path, manifest: Manifest, compared_with: str, reports: Sequence[Report]) -> None:
    """Write a report in Markdown, and its plot beside it as a PNG of the same name.

    Args:
        file: the Markdown file.
        manifest: the bundle's manifest.
        compared_with: what the bundle was compared with, in words.
        reports: the reports; a check that is in several is listed once.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    checks = list(dict.fromkeys(check for report in reports for check in report.checks))
    plot = file.with_suffix(".png")
    file.parent.mkdir(parents=True, exist_ok=True)
    _draw(checks, plot)
    file.write_text("\n".join(_lines(manifest, compared_with, checks, plot.name)) + "\n", encoding="utf-8")


def _lines(manifest: Manifest, compared_with: str, checks: Sequence[Check], plot: str) -> list[str]:
    failed = sum(not check.passed for check in checks)
    verdict = f"**{failed} of {len(checks)} checks failed.**" if failed else f"All {len(checks)} checks passed."
    head = "| stage | runtime | precision | worst cosine | mean cosine | largest difference | top 1 | top 10 | |"
    return [
        f"# {manifest.name}, compared with {compared_with}",
        "",
        f"{verdict} Fingerprint `{manifest.fingerprint()}`, source `{manifest.source}`.",
        "",
        f"![distance of the vectors to their reference]({plot})",
        "",
        head,
        "|---|---|---|--:|--:|--:|--:|--:|---|",
        *map(_line, checks),
        "",
        "Cosines compare vectors (image, text), each image's cosines to all texts (similarity), and its",
        "probabilities over them (labels). Top 1 and top 10: the share of each image's best texts that stay the",
        "same. A stage without finite vectors has no cosine and an infinite difference.",
    ]


def _line(check: Check) -> str:
    cosines = ("" if value is None else f"{value:.6f}" for value in (check.worst_cosine, check.mean_cosine))
    shares = ("" if share is None else f"{share:.1%}" for share in (check.top1, check.top10))
    difference = "inf" if math.isinf(check.max_abs) else f"{check.max_abs:.1e}"
    verdict = "passed" if check.passed else "**failed**"
    cells = (check.stage, check.runtime, check.precision, *cosines, difference, *shares, verdict)
    return f"| {' | '.join(cells)} |"


def _draw(checks: Sequence[Check], file: Path) -> None:
    """One row for each run: the worst and the mean distance of its vectors, on a logarithmic scale."""
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    vectors = [check for check in checks if check.stage in _STAGES]
    ways = list(dict.fromkeys((check.precision, check.runtime) for check in vectors))
    figure = Figure(figsize=(7.5, 1.3 + 0.4 * len(ways)), layout="constrained")
    axes = figure.add_subplot()
    for check in vectors:
        _, mark, colour = _STAGES[check.stage]
        row = ways.index((check.precision, check.runtime)) + (0.12 if check.stage == "text" else -0.12)
        worst, mean = (_distance(value) for value in (check.worst_cosine, check.mean_cosine))
        axes.plot([mean, worst], [row, row], color=colour, linewidth=1.5)
        axes.plot([worst], [row], mark, color=colour, markersize=7)
        axes.plot([mean], [row], mark, markerfacecolor="white", markeredgecolor=colour, markersize=6)
    for row, (precision, _) in enumerate(ways):
        if precision in WORST_COSINE:
            axes.plot([1 - WORST_COSINE[precision]] * 2, [row - 0.4, row + 0.4], color="#222222", linewidth=1)
    for label, mark, colour in _STAGES.values():
        axes.plot([], [], mark, color=colour, label=f"{label}, worst (filled) and mean")
    axes.plot([], [], color="#222222", linewidth=1, label="limit")
    axes.set_xscale("log")
    axes.set_xlim(_LEAST / 2, 2)
    axes.set_ylim(len(ways) - 0.5, -0.5)
    axes.set_yticks(range(len(ways)), labels=[f"{runtime}, {precision}" for precision, runtime in ways])
    axes.set_xlabel(f"1 - cosine to the reference ({_LEAST:g}: this or less)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def _distance(cosine: float | None) -> float:
    """1 - cosine; 1 if there is no vector."""
    return 1.0 if cosine is None else max(_LEAST, 1 - cosine)
