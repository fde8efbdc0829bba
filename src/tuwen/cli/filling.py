"""Pictures into an index, as a person sees it: the bar, the report, Ctrl-C.

Knows what is shown. Does not know how an index is filled: see `tasks/ingest.py`.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.cli.ending import INTERRUPTED, REJECTED, say
from tuwen.cli.options import Computing
from tuwen.cli.output import count, emit, list_rejected
from tuwen.cli.progress import Progress

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder
    from tuwen.tasks.report import IngestReport


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command shows: of which index, how far it is, and in what form the outcome."""

    target: Path
    progress: str
    as_json: bool


def fill(paths: Sequence[Path], encoder: "Encoder", index: "Index", computing: Computing, shown: Shown) -> int:
    """Run `ingest`, show how far it is and what came of it; return the exit code.

    Ctrl-C drops the batch that is not written yet and says what is in the index: 130.
    """
    try:
        report = ingest_shown(paths, encoder, index, computing, shown.progress)
    except KeyboardInterrupt:
        rows = count(index.info().rows, "picture")
        say(f"stopped: {rows} in {shown.target}; run the same command again to go on")
        return INTERRUPTED
    show_report(report, shown)
    for note in index.info().notes:
        say(note)
    return REJECTED if report.rejected else 0


def show_report(report: "IngestReport", shown: Shown) -> None:
    """The report in words or as JSON, and a line for each input that was rejected."""
    list_rejected(report.rejected)
    if shown.as_json:
        emit(_document(report, shown.target))
        return
    parts = (
        (report.indexed, "indexed"),
        (report.replaced, "replaced"),
        (report.removed, "removed"),
        (report.unchanged, "unchanged"),
        (report.skipped, "skipped"),
        (len(report.rejected), "rejected"),
    )
    said = ", ".join(f"{number:,} {what}" for number, what in parts if number) or "nothing to do"
    click.echo(f"{shown.target}: {count(report.rows, 'picture')}; {said}; {report.seconds:.1f} s{_rate(report)}")


def ingest_shown(
    paths: Sequence[Path], encoder: "Encoder", index: "Index", computing: Computing, progress: str
) -> "IngestReport":
    """Run `ingest` to its end and show how far it is; the report of the whole run."""
    from tuwen.tasks.files import find_files
    from tuwen.tasks.ingest import ingest

    reading = computing.reading(encoder)
    with (
        Progress(progress) as shown,
        closing(ingest(paths, encoder, index, reading=reading, decoders=computing.cores)) as reports,
    ):
        shown.begin(sum(1 for _ in find_files(paths, index.root, but=index.folder)) if shown.draws else None)
        for report in reports:
            shown.show(report.seen, report.rows)
    return report


def _document(report: "IngestReport", target: Path) -> dict[str, object]:
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


def _rate(report: "IngestReport") -> str:
    read = report.indexed + report.replaced
    return f" ({read / report.seconds:.1f} pictures/s)" if read and report.seconds > 0 else ""
