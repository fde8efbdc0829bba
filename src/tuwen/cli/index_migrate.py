"""`tuwen index migrate`: the same rows, of another model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from tuwen.cli import options
from tuwen.cli.command import INTERRUPTED, REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected
from tuwen.cli.options import Computing
from tuwen.errors import IndexLocked, RejectedImages
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.index.location import Place
from tuwen.ingest.migrate import migrate as migrated
from tuwen.ingest.writer import IngestReport, run
from tuwen.runtime.loading import portable_name


@click.command(
    cls=Command,
    examples=(
        "tuwen index migrate photos.tuwen --model b16",
        "tuwen index migrate photos.tuwen --model b16 --yes --json",
    ),
)
@click.argument("place", metavar="INDEX", type=options.PLACE)
@click.option("--yes", is_flag=True, help="Leave out rows whose file is gone or cannot be read.")
@options.computing
@options.progress
@options.as_json
def migrate(place: Place, yes: bool, computing: Computing, progress: str, as_json: bool) -> int:
    """Encode all rows of an index again with another model, then put them in place of the old ones.

    Until then the index answers with its old rows: searches wait only while some rows are read, and at the end. Keys,
    ids and payloads are kept. Rerun the command to resume. If files are gone or cannot be read, they are listed and
    the index stays as it is; with --yes, it is migrated without their rows.
    """
    if computing.model is None:
        raise click.UsageError("--model is missing: name the new model")
    target = options.index_folder(place)
    opening, old = _Opening(target, computing), manifest_of(target)
    encoder = computing.load(computing.model)
    reports = migrated(opening.opened, encoder, portable_name(computing.model), allow_missing=yes)
    try:
        report = run(reports, opening.count, progress)
    except RejectedImages as error:
        list_rejected(error.rejected)
        raise
    except KeyboardInterrupt:
        say("stopped: run the same command again to resume; until then the index has its old rows")
        return INTERRUPTED
    with opening.opened() as index:
        for note in index.migration_notes():
            say(note)
    list_rejected(report.rejected)
    if as_json:
        emit({"index": str(target), "from": old.model, "to": encoder.name, **_document(report)})
    else:
        done = f"{report.indexed:,} encoded" if report.indexed or report.rejected else "nothing to do"
        left_out = f", {len(report.rejected):,} left out" if report.rejected else ""
        click.echo(f"{target}: {count(report.rows, 'row')} of {encoder.name}; {done}{left_out}; {report.seconds:.1f} s")
    return REJECTED if report.rejected else 0


def _document(report: IngestReport) -> dict[str, object]:
    return {
        "rows": report.rows,
        "encoded": report.indexed,
        "unchanged": report.unchanged,
        "rejected": [asdict(item) for item in report.rejected],
        "seconds": round(report.seconds, 3),
    }


class _Opening:
    """Opens the index for a while, again and again. If another process has it meanwhile, it waits for that one."""

    def __init__(self, place: Place, computing: Computing) -> None:
        self._place, self._settings = place, computing.settings
        self._waits = False

    @contextmanager
    def opened(self) -> Iterator[VectorIndex]:
        """The index. The first time, an index that stays locked is an error."""
        with self._open() as index:
            yield index

    def count(self) -> int:
        """The number of its rows."""
        with self.opened() as index:
            return index.info().rows

    def _open(self) -> VectorIndex:
        settings, told = self._settings, False
        while True:
            try:
                index = VectorIndex.open(
                    self._place,
                    encoder=None,
                    lock_timeout=settings.lock_timeout,
                    quantize_above=settings.quantize_above,
                )
            except IndexLocked as error:
                if not self._waits:
                    raise
                if not told:
                    say(f"waiting: {error}")
                told = True
            else:
                self._waits = True
                return index
