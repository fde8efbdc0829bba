"""`tuwen index migrate`: the same rows, of another model."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import click

from tuwen.cli import options
from tuwen.cli.command import INTERRUPTED, REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected
from tuwen.cli.options import Computing
from tuwen.errors import IndexFault, IndexLocked, RejectedImages
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.index.location import Location
from tuwen.ingest.migrate import migrate as migrated
from tuwen.ingest.writer import IngestReport, run
from tuwen.runtime.loading import portable_name

SHORT = 1.0
"""seconds to wait for another process that uses the index only briefly"""


@click.command(
    cls=Command,
    examples=(
        "tuwen index migrate photos.tuwen --model b16",
        "tuwen index migrate photos.tuwen --model b16 --yes --json",
    ),
)
@click.argument("place", metavar="INDEX", type=options.LOCATION)
@click.option("--yes", is_flag=True, help="Leave out rows whose file is gone or cannot be read.")
@options.computing
@options.progress
@options.as_json
def migrate(place: Location, yes: bool, computing: Computing, progress: str, as_json: bool) -> int:
    """Encode all rows of an index again with another model, then put them in place of the old ones.

    Until then the index answers with its old rows: searches wait only while some rows are read, and at the end. Where
    tuwen serve has the index open, the new rows take their places once it is restarted. Keys, ids and payloads are
    kept. Rerun the command to resume. If files are gone or cannot be read, they are listed and the index stays as it
    is; with --yes, it is migrated without their rows.
    """
    if computing.model is None:
        raise click.UsageError("--model is missing: name the new model")
    target = options.index_folder(place)
    old = manifest_of(target)
    encoder = computing.load(computing.model)
    with closing(_Opening(target, computing)) as opening:
        name = portable_name(computing.model)
        reports = migrated(opening.changing, encoder, name, allow_missing=yes, reading=opening.reading)
        try:
            report = run(reports, opening.count, progress)
        except RejectedImages as error:
            list_rejected(error.rejected)
            raise
        except KeyboardInterrupt:
            say("stopped: run the same command again to resume; until then the index has its old rows")
            return INTERRUPTED
    for note in opening.notes:
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
    """Opens the index for a while, again and again; a copy to read from while another process has it, as a service.

    Attributes:
        notes: remarks about the index after the migration.
    """

    def __init__(self, place: Location, computing: Computing) -> None:
        self._place, self._settings = place, computing.settings
        self._copy: VectorIndex | None = None
        self.notes: tuple[str, ...] = ()

    @contextmanager
    def reading(self) -> Iterator[VectorIndex]:
        """The index, or a copy of it."""
        if self._copy is None:
            index = self._opened(SHORT) or self._copied() or self._awaited("waiting: {error}")
        else:
            index = self._opened(0) or self._copy
        try:
            yield index
        finally:
            if index is not self._copy:
                index.close()

    @contextmanager
    def changing(self) -> Iterator[VectorIndex]:
        """The index itself, once other processes let go of it."""
        self.close()
        what = (
            "all rows are encoded: stop or restart {process}, which has {place} open, and they take the old ones' place"
        )
        with self._awaited(what) as index:
            yield index
            self.notes = index.migration_notes()

    def count(self) -> int:
        """The number of its rows."""
        with self.reading() as index:
            return index.info().rows

    def close(self) -> None:
        """Delete the copy."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def _opened(self, patience: float) -> VectorIndex | None:
        """The index; None if another process has it."""
        with suppress(IndexLocked):
            return VectorIndex.open(
                self._place, encoder=None, lock_timeout=patience, quantize_above=self._settings.quantize_above
            )
        return None

    def _copied(self) -> VectorIndex | None:
        """A copy of the index; None if it is being written to."""
        if not isinstance(self._place, Path):
            return None
        with suppress(IndexFault):
            self._copy = VectorIndex.snapshot(self._place)
        return self._copy

    def _awaited(self, message: str) -> VectorIndex:
        """The index itself. If it has to be waited for, the message is printed."""
        told = False
        while True:
            try:
                return VectorIndex.open(
                    self._place,
                    encoder=None,
                    lock_timeout=self._settings.lock_timeout if told else SHORT,
                    quantize_above=self._settings.quantize_above,
                )
            except IndexLocked as error:
                if not told:
                    process = f"process {error.value}" if error.value else "the process"
                    say(message.format(error=error, process=process, place=self._place))
                told = True
