"""Run an ingest with its progress bar, its report, and its end by Ctrl-C."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from tuwen.cli.command import INTERRUPTED, REJECTED, say
from tuwen.cli.console import count, emit, list_rejected
from tuwen.cli.options import Address
from tuwen.data.files import find_files
from tuwen.data.samples import Columns
from tuwen.data.selection import Selection
from tuwen.data.tables import read_captions
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.ingest.images import ingest
from tuwen.ingest.selection import read_selection
from tuwen.ingest.texts import ingest_texts
from tuwen.ingest.writer import IngestReport, run
from tuwen.runtime.encoder import Encoder

Reports: TypeAlias = "Generator[IngestReport]"

if TYPE_CHECKING:
    from tuwen.client.client import Client


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command shows: its index, how to show progress and the report, and what it indexes."""

    target: Location | Address
    progress: str
    as_json: bool
    noun: str = "picture"


def fill(
    paths: Sequence[Path], encoder: Encoder, index: VectorIndex, shown: Shown, selection: Selection | None = None
) -> int:
    """Index images, show progress and the report, and return the exit code."""
    return run_shown(*_pictures(paths, encoder, index, selection), index, shown)


def fill_texts(paths: Sequence[Path], encoder: Encoder, index: VectorIndex, columns: Columns, shown: Shown) -> int:
    """Index texts, show progress and the report, and return the exit code."""
    reports = ingest_texts(paths, encoder, index, columns)
    return run_shown(reports, lambda: sum(1 for path in paths for _ in read_captions(path, columns)), index, shown)


def upload(paths: Sequence[Path], client: "Client", shown: Shown) -> int:
    """Send images to a service, show progress and the report, and return the exit code."""

    def total() -> int:
        return sum(1 for _ in find_files(paths, Path()))

    return run_shown(_uploaded(paths, client), total, client, shown)


def run_shown(reports: Reports, total: Callable[[], int], index: "VectorIndex | Client", shown: Shown) -> int:
    """Run an ingest, show progress (out of `total()` inputs) and the report, and return the exit code.

    Ctrl-C discards the batch that is not written yet, prints what is in the index, and returns 130.
    """
    try:
        report = last_report(reports, total, shown.progress)
    except KeyboardInterrupt:
        rows = count(index.info().rows, "row")
        say(f"stopped: {rows} in {shown.target}; run the same command again to go on")
        return INTERRUPTED
    show_report(report, shown)
    for note in index.info().notes:
        say(note)
    return REJECTED if report.rejected else 0


def show_report(report: IngestReport, shown: Shown) -> None:
    """Print the report as a line or as JSON, and one line for each rejected input."""
    list_rejected(report.rejected)
    if shown.as_json:
        emit(as_document(report, shown.target))
    else:
        click.echo(summary(report, shown))


def summary(report: IngestReport, shown: Shown) -> str:
    """The report as one line."""
    parts = (
        (report.indexed, "indexed"),
        (report.replaced, "replaced"),
        (report.removed, "removed"),
        (report.unchanged, "unchanged"),
        (report.skipped, "skipped"),
        (len(report.rejected), "rejected"),
    )
    changes = ", ".join(f"{number:,} {what}" for number, what in parts if number) or "nothing to do"
    rows, rate = count(report.rows, "row"), _rate(report, shown.noun)
    return f"{shown.target}: {rows}; {changes}; {report.seconds:.1f} s{rate}"


def ingest_shown(paths: Sequence[Path], encoder: Encoder, index: VectorIndex, progress: str) -> IngestReport:
    """Index images and show progress; return the report of the whole run."""
    return last_report(*_pictures(paths, encoder, index), progress)


def last_report(reports: Reports, total: Callable[[], int], progress: str) -> IngestReport:
    """Run a task to its end and show how far it is; the report of the whole run."""
    return run(reports, total, progress)


def count_files(paths: Sequence[Path], index: VectorIndex, selection: Selection | None = None) -> int:
    """The number of files below these paths."""
    taken = read_selection(index.folder).selection if selection is None else selection
    return sum(1 for _ in find_files(paths, index.root, but=index.folder, selection=taken))


def _pictures(
    paths: Sequence[Path], encoder: Encoder, index: VectorIndex, selection: Selection | None = None
) -> tuple[Reports, Callable[[], int]]:
    """The reports of indexing images, and a function that counts the files."""
    reports = ingest(paths, encoder, index, selection)
    return reports, lambda: count_files(paths, index, selection)


def _uploaded(paths: Sequence[Path], client: "Client") -> Reports:
    """The service's reports; the last one also counts rows that others added meanwhile."""
    before = client.info().rows
    for added in client.adding(paths):
        report = IngestReport(
            rows=before + added.indexed,
            indexed=added.indexed,
            unchanged=added.unchanged,
            replaced=added.replaced,
            skipped=added.skipped,
            rejected=added.rejected,
            seconds=added.seconds,
        )
        yield report
    yield replace(report, rows=client.info().rows)


def as_document(report: IngestReport, target: Location | Address) -> dict[str, object]:
    """The report as `--json` prints it."""
    return {
        "index": str(target),
        "indexed": report.indexed,
        "unchanged": report.unchanged,
        "replaced": report.replaced,
        "removed": report.removed,
        "skipped": report.skipped,
        "rejected": [asdict(item) for item in report.rejected],
        "seconds": round(report.seconds, 3),
    }


def _rate(report: IngestReport, noun: str) -> str:
    read = report.indexed + report.replaced
    return f" ({read / report.seconds:.1f} {noun}s/s)" if read and report.seconds > 0 else ""
