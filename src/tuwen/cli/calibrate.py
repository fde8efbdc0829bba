"""`tuwen calibrate`: measure the score below which a hit means nothing."""

from collections.abc import Sequence
from pathlib import Path

import click

from tuwen.cli import options
from tuwen.cli.command import Command, say
from tuwen.cli.console import emit, table
from tuwen.cli.locations import opened
from tuwen.cli.options import Computing
from tuwen.errors import IndexInvalid
from tuwen.evaluation.calibrate import Probe, Score, draw, labelled_probes, measure, random_probes, samples, thresholds
from tuwen.index.calibration import Calibration, QueryKind, Threshold
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder

RANDOM = 200
"""random queries of each kind, if neither their number nor a file is given"""

MIXED = "whose scores are on different scales: no threshold holds for both, so keep them in two indexes"
"""of an index of images and texts: by their scores, a search mostly tells these two apart"""


@click.command(
    cls=Command,
    examples=(
        "tuwen calibrate --index photos.tuwen",
        "tuwen calibrate --index photos.tuwen --labelled queries.jsonl --random 200 --plot scores.png",
    ),
)
@options.index
@click.option("--labelled", type=options.FILE, help="Queries and what each should find: JSONL, CSV or TSV.")
@click.option(
    "--random",
    "chosen",
    type=click.IntRange(min=0, max=5000),
    metavar="N",
    help=f"Add N texts that nothing matches, and N images of the index; {RANDOM} without --labelled, else 0.",
)
@click.option(
    "--plot", type=options.NEW_PLOT, metavar="FILE", help="Plot the scores and the thresholds (png, svg, pdf)."
)
@options.computing
@options.progress
@options.as_json
def calibrate(
    *,
    computing: Computing,
    folder: Location | None,
    labelled: Path | None,
    chosen: int | None,
    plot: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Measure the score below which nothing in an index matches.

    One threshold for queries by text and one for queries by image. They are stored with the index and used by tuwen
    search --min-score auto. Error rates are measured on queries that were not used to choose the threshold.
    """
    target = options.index_folder(folder)
    number = chosen if chosen is not None else 0 if labelled else RANDOM
    with opened(target, computing) as (encoder, index):
        measured = samples(_scores(_probes(labelled, number, encoder, index), encoder, index, progress))
        found = thresholds(measured, index.info().rows)
        for kind in measured.keys() - found.keys():
            say(f"{measured[kind].count} {kind} queries are too few for a threshold")
        if len(index.values("type")) > 1:
            say(f"{target} has rows of images and of texts, {MIXED}")
        calibration = _with(found, index)
        index.calibrate(calibration)
    if plot is not None:
        draw(measured, found, plot)
        say(f"plot: {plot}")
    _show(target, encoder.name, calibration, as_json=as_json)


def _probes(labelled: Path | None, number: int, encoder: Encoder, index: VectorIndex) -> Sequence[Probe]:

    asked = labelled_probes(labelled, index) if labelled else []
    asked += random_probes(number, encoder, index) if number else []
    if not asked:
        raise click.UsageError("no queries: give --labelled FILE, or --random with a number above 0")
    return asked


def _scores(probes: Sequence[Probe], encoder: Encoder, index: VectorIndex, progress: str) -> list[Score]:

    found = []
    with Progress(progress) as shown:
        shown.begin(len(probes))
        for done, score in enumerate(measure(probes, encoder, index), start=1):
            shown.show(done)
            found += [] if score is None else [score]
    return found


def _with(found: dict[QueryKind, Threshold], index: VectorIndex) -> Calibration:
    """The new thresholds, and the earlier one of a kind of query that was not measured now."""
    before = _before(index) or Calibration(fingerprint=index.info().fingerprint)
    return before.model_copy(update={str(kind): it for kind, it in found.items()})


def _before(index: VectorIndex) -> Calibration | None:
    """The earlier thresholds; a file that cannot be read is replaced."""
    try:
        return index.calibration()
    except IndexInvalid as error:
        say(str(error))
        return None


def _show(target: Location, model: str, calibration: Calibration, *, as_json: bool) -> None:
    kinds = {"text": calibration.text, "image": calibration.image}
    if as_json:
        measured = {kind: None if it is None else it.model_dump() for kind, it in kinds.items()}
        emit({"index": str(target), "model": model, "thresholds": measured})
        return
    rows = [
        (kind, f"{it.threshold:.3f}", _rate(it.false_accept, it.unmatching), _rate(it.false_reject, it.matching))
        for kind, it in kinds.items()
        if it is not None
    ]
    table(("query", "threshold", "false accepts", "false rejects"), rows, numbers=(1,))


def _rate(rate: float | None, queries: int) -> str:
    return "not measured" if rate is None else f"{100 * rate:.1f} % of {queries}"
