"""`tuwen index sync`: an index made equal to a folder, once or for as long as it runs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, strftime
from typing import TYPE_CHECKING

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.ending import say
from tuwen.cli.filling import Shown, as_document, count_files, last_report, run_shown, summary
from tuwen.cli.options import Computing
from tuwen.cli.output import list_rejected
from tuwen.errors import IndexLocked
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder
    from tuwen.tasks.report import IngestReport
    from tuwen.tasks.watch import Due
    from tuwen.types import Rejected


@click.command(
    cls=Command,
    examples=(
        "tuwen index sync PHOTOS/ --index photos.tuwen",
        "tuwen index sync PHOTOS/2024/ --index photos.tuwen --watch",
    ),
)
@click.argument("photos", type=options.ANY_PATH)
@options.index
@click.option("--watch", is_flag=True, help="Keep it so until Ctrl-C; one line a batch of changes.")
@click.option("--allow-empty", is_flag=True, help="Take out all rows where PHOTOS has no picture.")
@options.computing
@options.progress
@options.as_json
def sync(
    *,
    computing: Computing,
    photos: Path,
    folder: Place | None,
    watch: bool,
    allow_empty: bool,
    progress: str,
    as_json: bool,
) -> int:
    """Make an index equal to the pictures below PHOTOS.

    New and changed pictures are read, moved ones keep their vectors, the rows of deleted ones are taken out. Rows
    of pictures elsewhere, and of texts, stay. A folder without pictures is taken for one that is not mounted.
    """
    from tuwen.cli.opening import opened_or_new
    from tuwen.tasks.ingest import Pictures
    from tuwen.tasks.sync import identity_of
    from tuwen.tasks.sync import sync as make_equal

    identity_of(photos)
    target = options.index_folder(folder)
    shown = Shown(target, progress, as_json)
    if watch:
        return _Keeping(photos.absolute(), target, computing, shown, allow_empty).run()
    with opened_or_new(target, photos, computing, anywhere=True) as (encoder, index):
        pictures = Pictures(encoder, index, computing.reading(encoder), computing.cores)
        reports = make_equal(photos, pictures, allow_empty=allow_empty)
        return run_shown(reports, lambda: count_files([photos], index), index, shown)


class _Keeping:
    """`--watch`: the index is open only while there is something to do, so that it can be searched meanwhile."""

    def __init__(self, photos: Path, target: Place, computing: Computing, shown: Shown, allow_empty: bool) -> None:
        self._photos = photos
        self._target = target
        self._computing = computing
        self._shown = shown
        self._allow_empty = allow_empty
        self._encoder: Encoder | None = None
        self._rejected: set[Rejected] = set()

    def run(self) -> int:
        """Until Ctrl-C: 0."""
        from tuwen.tasks.watch import Pending, watched

        pending = Pending(self._photos)
        own = self._target.absolute() if isinstance(self._target, Path) else None
        try:
            with closing(watched(self._photos, own)) as changes:
                for changed in changes:  # the first come before anything is read, so that none is missed
                    pending.note(changed, monotonic())
                    due = pending.take(monotonic())
                    if due is not None and not self._done(due):
                        pending.give_back(due, monotonic())
        except KeyboardInterrupt:
            say(f"stopped watching {self._photos}")
        return 0

    def _done(self, due: "Due") -> bool:
        """Look at what is due, and tell what was new; whether the index could be opened."""
        first = self._encoder is None
        try:
            with self._opened() as (encoder, index):
                report = self._look(due, encoder, index)
        except IndexLocked as error:
            say(f"waiting: {error}")
            return False
        news = [item for item in report.rejected if due.paths is not None or item not in self._rejected]
        self._rejected.update(news)
        if first or news or report.indexed or report.replaced or report.removed:
            self._tell(report, news)
        return True

    @contextmanager
    def _opened(self) -> "Iterator[tuple[Encoder, Index]]":
        """The index, and its model, which is loaded once."""
        from tuwen.cli.opening import opened_or_new
        from tuwen.index.index import Index

        if self._encoder is None:
            with opened_or_new(self._target, self._photos, self._computing, anywhere=True) as both:
                self._encoder = both[0]
                yield both
            return
        settings = self._computing.settings
        with Index.open(
            self._target,
            encoder=self._encoder,
            lock_timeout=settings.lock_timeout,
            quantize_above=settings.quantize_above,
        ) as index:
            yield self._encoder, index

    def _look(self, due: "Due", encoder: "Encoder", index: "Index") -> "IngestReport":
        from tuwen.tasks.ingest import Pictures
        from tuwen.tasks.sync import sync

        pictures = Pictures(encoder, index, self._computing.reading(encoder), self._computing.cores)
        reports = sync(self._photos, pictures, allow_empty=self._allow_empty, only=due.paths)
        return last_report(reports, lambda: count_files([self._photos], index), self._shown.progress)

    def _tell(self, report: "IngestReport", news: "Sequence[Rejected]") -> None:
        """One line, or one JSON document in a line, of a batch of changes."""
        list_rejected(news)
        line = f"{strftime('%H:%M:%S')} {summary(report, self._shown)}"
        click.echo(json.dumps(as_document(report, self._target)) if self._shown.as_json else line)
