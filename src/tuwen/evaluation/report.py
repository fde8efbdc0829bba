"""An evaluation to read: Markdown with tables, a plot, and a sheet of the worst misses as pictures."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuwen.data.decode import Picture, Reading, read_image
from tuwen.errors import require
from tuwen.evaluation.evaluate import Comparison, Evaluation, ThroughIndex
from tuwen.evaluation.metrics import KS, Classification
from tuwen.evaluation.tasks import Measured, Miss
from tuwen.search.sheet import CELL, grid
from tuwen.types import Rejected

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MISSES = 12
"""the worst misses of each result, on the sheet"""
CONFUSIONS = 10
NAMED = 40
"""classes of a plot that have their names beneath"""
CHANGES = 20
"""changed queries that are listed"""
_OTHER_SCRIPTS = "\u0530"
"""from here on, matplotlib's own font lacks most characters"""
_BLUE, _RED = "#0072b2", "#d55e00"


def write_report(file: Path, evaluation: Evaluation) -> list[Path]:
    """Write a report in Markdown, with a plot and a sheet of misses for each result beside it.

    Args:
        file: where to; pictures are named after it, `report.plot.png`, `report.misses.jpg`, and `report.2.plot.png`
            for the second result.
        evaluation: what was measured.

    Returns:
        The files that were written, all at the end: a run that is stopped before leaves none.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    lines = [f"# {evaluation.model.name} on {evaluation.measured[0].encoded.dataset.name}", "", *_facts(evaluation)]
    pictures: dict[Path, bytes] = {}
    head, rows = figures(evaluation)
    aligned = "".join("|--:" if number >= head.index("value") else "|---" for number in range(len(head)))
    lines += ["", f"| {' | '.join(head)} |", f"{aligned}|", *(f"| {' | '.join(cells)} |" for cells in rows)]
    for number, measured in enumerate(evaluation.measured):
        stem = file.stem if number == 0 else f"{file.stem}.{number + 1}"
        plot, sheet = file.with_name(f"{stem}.plot.png"), file.with_name(f"{stem}.misses.jpg")
        other = evaluation.comparisons[number] if evaluation.comparisons else None
        pictures[plot] = _plot(measured, other)
        lines += ["", f"## {title(measured)}", "", f"![the figures]({plot.name})"]
        if other is not None:
            same = percent(other.overlap)
            lines += ["", f"{len(other.changed)} queries changed; {same} of the ten best are the same."]
            lines += ["", *_changed(other)]
        if evaluation.indexed:
            lines += ["", *_index(evaluation.indexed[number])]
        if isinstance(measured.result, Classification):
            lines += ["", *_confusions(measured, measured.result)]
        misses = measured.misses(MISSES)
        if misses:
            pictures[sheet] = _sheet(measured, misses, evaluation.model.reading.max_pixels)
            lines += ["", "### Worst misses", "", f"![the worst misses]({sheet.name})", "", *_listed(misses)]
    if evaluation.rejected:
        lines += ["", "## Images that are missing or cannot be read", ""]
        lines += [f"- `{item.path}`: {item.reason}" for item in evaluation.rejected]
    for place, content in pictures.items():
        place.write_bytes(content)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [file, *pictures]


def title(measured: Measured) -> str:
    """The task, and the language where it is known."""
    return f"{measured.task}, {measured.language}" if measured.language else measured.task


def percent(value: float) -> str:
    """A share as `61.25 %`."""
    return f"{100 * value:.2f} %"


def figure(name: str, value: float) -> str:
    """A metric's value as people read it: ranks as they are, all else as percentages."""
    return f"{value:g}" if name.endswith("rank") else percent(value)


def _facts(evaluation: Evaluation) -> list[str]:
    model, counts = evaluation.model, evaluation.measured[0].counts
    return [
        f"Model `{model.name}` (fingerprint `{model.fingerprint}`, {model.precision} on {model.runtime}), "
        f"{counts['images']} of {counts['of_images']} images, {evaluation.seconds:.1f} s.",
        "Intervals are 95 % bootstrap intervals over images. Ties count against the model.",
        *evaluation.measured[0].encoded.dataset.notes,
    ]


def figures(evaluation: Evaluation, *, own: bool = True) -> tuple[list[str], list[list[str]]]:
    """One table of all figures, its head and its rows; those of several languages stand beneath each other.

    `own`: with the intervals of the values themselves where there is a comparison, which has an interval, too.
    """
    several, compared = len(evaluation.measured) > 1, bool(evaluation.comparisons)
    ends = ["95 % from", "to"]
    head = ["metric", *(["language"] if several else []), "value", *(ends if own or not compared else [])]
    rows = []
    for name in evaluation.measured[0].metrics:
        for number, measured in enumerate(evaluation.measured):
            values = [measured.metrics[name], *(measured.intervals[name] if own or not compared else ())]
            if compared:
                other = evaluation.comparisons[number]
                change = other.differences[name]
                values += [other.measured.metrics[name], change.value, change.low, change.high]
            label = [name, *([measured.language or "?"] if several else [])]
            rows.append([*label, *(figure(name, value) for value in values)])
    return [*head, *(["against", "difference", *ends] if compared else [])], rows


def _changed(other: Comparison) -> list[str]:
    found = [f"- {query!r}: rank {rank}, {there} by the other" for query, rank, there in other.changed[:CHANGES]]
    left = len(other.changed) - len(found)
    return [*found, *([f"- and {left} more"] if left else [])]


def _index(found: ThroughIndex) -> list[str]:
    return [
        f"Through the index ({found.rows} rows, {found.queries} queries): the graph finds {percent(found.kept)} of the "
        "ten nearest rows.",
        "",
        "| metric | through the graph | exact |",
        "|---|--:|--:|",
        *(f"| {name} | {percent(value)} | {percent(found.exact[name])} |" for name, value in found.graph.items()),
    ]


def _confusions(measured: Measured, result: Classification) -> list[str]:
    found = result.confusions(CONFUSIONS)
    if not found:
        return []
    rows = [f"| {measured.classes[one]} | {measured.classes[other]} | {often} |" for one, other, often in found]
    return ["### Most frequent confusions", "", "| class | predicted | images |", "|---|---|--:|", *rows]


def _listed(misses: Sequence[Miss]) -> list[str]:
    return [
        f"{number}. {miss.query!r}: {miss.wanted} is at rank {miss.rank}, {miss.found} is first"
        for number, miss in enumerate(misses, start=1)
    ]


def _sheet(measured: Measured, misses: Sequence[Miss], max_pixels: int) -> bytes:
    """A JPEG: each miss' own image, and beside it the one that was found in its place."""
    cells = []
    for number, miss in enumerate(misses, start=1):
        for place, words in zip(miss.images, ((f"{number}", f"rank {miss.rank}"), ("", "found")), strict=False):
            example = measured.encoded.dataset[place]
            picture = (
                example
                if isinstance(example, Rejected)
                else read_image(example.image, example.key, Reading(near=(CELL, CELL), max_pixels=max_pixels))
            )
            cells.append((picture.image if isinstance(picture, Picture) else None, *words))
    content = BytesIO()
    grid(cells, columns=6).save(content, format="jpeg", quality=88)
    return content.getvalue()


def _plot(measured: Measured, other: Comparison | None) -> bytes:
    """A PNG: recall by k for retrieval; accuracy by class for classification."""
    from matplotlib.figure import Figure

    image = Figure(figsize=(7.5, 4), layout="constrained")
    axes = image.add_subplot()
    classes = measured.classes
    if not classes:
        _recalls(axes, measured, "")
        if other is not None:
            _recalls(axes, other.measured, " (other)")
        axes.set(xlabel="k", ylabel="recall at k", xticks=KS, ylim=(0, 1.02))
        image.legend(frameon=False, loc="outside right upper")
    else:
        values = np.nan_to_num(measured.result.per_class())  # type: ignore[attr-defined]
        order = np.argsort(-values, kind="stable")
        named = len(order) <= NAMED and max("".join(classes)) < _OTHER_SCRIPTS
        axes.bar(np.arange(len(order)), values[order], width=0.8 if named else 1.0, color=_BLUE)
        axes.set(xlabel="classes, best first", ylabel="accuracy", ylim=(0, 1.02))
        if named:
            axes.set_xticks(np.arange(len(order)), [classes[place] for place in order], rotation=90, fontsize=8)
    content = BytesIO()
    image.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _recalls(axes: "Axes", measured: Measured, suffix: str) -> None:
    for way, colour, words in (("image", _BLUE, "text to image"), ("text", _RED, "image to text")):
        names = [f"{way}_retrieval_recall@{k}" for k in KS]
        values = np.array([measured.metrics[name] for name in names])
        ends = np.array([measured.intervals[name] for name in names]).T
        axes.errorbar(
            KS,
            values,
            yerr=np.abs(ends - values),
            color=colour,
            marker="o",
            capsize=3,
            linestyle="--" if suffix else "-",
            label=words + suffix,
        )
