"""`tuwen index …`: build, update and inspect an index."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from time import monotonic, strftime
from typing import Any, TypeVar

import click

from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected, printable, table
from tuwen.cli.index_migrate import migrate
from tuwen.cli.index_transfer import copy, export, import_
from tuwen.cli.ingest import (
    Shown,
    as_document,
    count_files,
    fill,
    fill_texts,
    last_report,
    run_shown,
    show_report,
    summary,
    upload,
)
from tuwen.cli.locations import opened, opened_alone, opened_or_new
from tuwen.cli.options import Address, Computing
from tuwen.data.samples import Columns
from tuwen.data.selection import Selection
from tuwen.errors import IndexLocked, InvalidInput
from tuwen.index.calibration import QUERY_KINDS
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.ingest.images import ImageIngest
from tuwen.ingest.selection import read_selection
from tuwen.ingest.sync import MAX_REMOVED, identity_of
from tuwen.ingest.sync import remove as take_out
from tuwen.ingest.sync import sync as make_equal
from tuwen.ingest.watch import Due, Pending, watched
from tuwen.ingest.writer import IngestReport
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder
from tuwen.search.duplicates import Duplicates, Group
from tuwen.settings import read_settings
from tuwen.types import Rejected


@click.command(
    cls=Command,
    examples=(
        "tuwen index sync PHOTOS/ --index photos.tuwen",
        "tuwen index sync PHOTOS/2024/ --index photos.tuwen --watch",
        "tuwen index sync PHOTOS/ --index photos.tuwen --refresh-facts",
    ),
)
@click.argument("photos", type=options.ANY_PATH)
@options.selected
@options.index
@click.option("--watch", is_flag=True, help="Keep watching until Ctrl-C; prints one line per batch of changes.")
@click.option(
    "--poll", type=click.FloatRange(0.05), metavar="SECONDS", help="Watch by looking this often, for network drives."
)
@click.option("--verify-content", is_flag=True, help="Read all files, to find edits that kept size and time.")
@click.option("--yes", is_flag=True, help="Remove rows even if they are more than 20 % of those of PHOTOS.")
@click.option("--refresh-facts", is_flag=True, help="Read date, place, camera and keywords again, without encoding.")
@options.computing
@options.progress
@options.as_json
def sync(
    *,
    computing: Computing,
    photos: Path,
    folder: Location | None,
    selection: Selection | None,
    watch: bool,
    poll: float | None,
    verify_content: bool,
    yes: bool,
    refresh_facts: bool,
    progress: str,
    as_json: bool,
) -> int:
    """Update an index to match the images in a folder.

    New and changed images are encoded, moved ones keep their vectors, and rows of deleted ones are removed. Rows of
    images elsewhere, and of texts, are kept. Where more than 20 % of the images are gone, nothing is removed without
    --yes, as a disk may not be mounted.
    """
    if poll is not None and not watch:
        raise click.UsageError("--poll is how --watch looks for changes: add --watch")
    for option, given in (("--verify-content", verify_content), ("--refresh-facts", refresh_facts)):
        if watch and given:
            raise click.UsageError(f"{option} reads all files once: run it without --watch")
    identity_of(photos)
    most = 1.0 if yes else MAX_REMOVED
    target = options.index_folder(folder)
    shown = Shown(target, progress, as_json)
    if watch:
        following = _Keeping(
            photos.absolute(), target, computing, shown, max_removed=most, selection=selection, poll=poll
        )
        return following.run()
    with opened_or_new(target, photos, computing, anywhere=True) as (encoder, index):
        pictures = ImageIngest(encoder, index, selection, verify_content=verify_content, refresh_facts=refresh_facts)
        reports = make_equal(photos, pictures, max_removed=most)
        return run_shown(reports, lambda: count_files([photos], index, selection), index, shown)


class _Keeping:
    """`--watch`: the index is open only while there are changes, so that it can be searched in between."""

    def __init__(
        self,
        photos: Path,
        target: Location,
        computing: Computing,
        shown: Shown,
        *,
        max_removed: float,
        selection: Selection | None,
        poll: float | None,
    ) -> None:
        self._photos = photos
        self._target = target
        self._computing = computing
        self._shown = shown
        self._max_removed = max_removed
        self._selection = selection
        self._poll = poll
        self._encoder: Encoder | None = None
        self._rejected: set[Rejected] = set()

    def run(self) -> int:
        """Watch until Ctrl-C, and return 0."""
        pending = Pending(self._photos)
        own = self._target.absolute() if isinstance(self._target, Path) else None
        try:
            with closing(watched(self._photos, own, self._poll)) as changes:
                for changed in changes:  # the first are noted before anything is read, so that none is missed
                    pending.note(changed, monotonic())
                    due = pending.take(monotonic())
                    if due is not None and not self._done(due):
                        pending.give_back(due, monotonic())
        except KeyboardInterrupt:
            say(f"stopped watching {self._photos}")
        return 0

    def _done(self, due: Due) -> bool:
        """Apply the changes that are due and report what was new; return whether the index could be opened."""
        first = self._encoder is None
        try:
            with self._opened() as (encoder, index):
                report = self._look(due, encoder, index)
        except IndexLocked as error:
            say(f"waiting: {error}")
            return False
        except InvalidInput as error:  # the folder is away, or too much of it: when it is back, all of it is compared
            if first:
                raise
            say(f"waiting: {error}")
            return True
        news = [item for item in report.rejected if due.paths is not None or item not in self._rejected]
        self._rejected.update(news)
        if first or news or report.indexed or report.replaced or report.removed:
            self._tell(report, news)
        return True

    @contextmanager
    def _opened(self) -> Iterator[tuple[Encoder, VectorIndex]]:
        """The index and its model, which is loaded once."""
        if self._encoder is None:
            with opened_or_new(self._target, self._photos, self._computing, anywhere=True) as both:
                self._encoder = both[0]
                yield both
            return
        settings = self._computing.settings
        with VectorIndex.open(
            self._target,
            encoder=self._encoder,
            lock_timeout=settings.lock_timeout,
            quantize_above=settings.quantize_above,
        ) as index:
            yield self._encoder, index

    def _look(self, due: Due, encoder: Encoder, index: VectorIndex) -> IngestReport:
        pictures = ImageIngest(encoder, index, self._selection)
        reports = make_equal(self._photos, pictures, max_removed=self._max_removed, only=due.paths)
        return last_report(reports, lambda: count_files([self._photos], index), self._shown.progress)

    def _tell(self, report: IngestReport, news: Sequence[Rejected]) -> None:
        """Print one line, or one JSON document on one line, for a batch of changes."""
        list_rejected(news)
        line = f"{strftime('%H:%M:%S')} {summary(report, self._shown)}"
        click.echo(json.dumps(as_document(report, self._target)) if self._shown.as_json else line)


@click.command(
    cls=Command,
    examples=(
        "tuwen index duplicates --index photos.tuwen",
        "tuwen index duplicates --index photos.tuwen --threshold 0.99 --json",
    ),
)
@options.index
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.97,
    show_default=True,
    help="The lowest cosine of near-duplicates.",
)
@options.progress
@options.as_json
def duplicates(folder: Path | None, threshold: float, progress: str, as_json: bool) -> None:
    """List groups of near-duplicate images.

    Prints one path per line, with an empty line between groups; the image with the most pixels comes first in its
    group. If a is near b and b is near c, all three are in one group. Nothing is changed.
    """
    target = options.index_folder(folder)
    patience = read_settings().lock_timeout
    with VectorIndex.open(target, encoder=None, lock_timeout=patience) as store, Progress(progress) as shown:
        search = Duplicates(store, threshold)
        for place, step in enumerate(search):
            if place == 0:
                shown.begin(step.total)
            shown.show(step.done)
        groups = search.groups()
    if as_json:
        found = [{"rows": [{"id": row.id, "payload": dict(row.payload)} for row in group]} for group in groups]
        emit({"index": str(target), "threshold": threshold, "groups": found})
    else:
        _show(groups)


def _show(groups: list[Group]) -> None:
    for place, group in enumerate(groups):
        click.echo("\n" if place else "", nl=False)
        for row in group:
            click.echo(printable(str(row.payload["path"])))
    say(f"{count(len(groups), 'group')} of {count(sum(map(len, groups)), 'row')}")


F = TypeVar("F", bound=Callable[..., Any])


def with_texts(command: F) -> F:
    """Add `--texts` and the options of its files; the command gets `texts`: their columns, or None for images."""

    @wraps(command)
    def reading(
        texts: bool,
        text_column: str | None,
        key_column: str | None,
        encoding: str | None,
        **options: Any,  # noqa: ANN401
    ) -> object:
        if not texts and (text_column or key_column or encoding):
            raise click.UsageError("--text-column, --key-column and --encoding are for files of texts: add --texts")
        columns = Columns(caption=text_column, key=key_column, encoding=encoding)
        return command(texts=columns if texts else None, **options)

    for option in reversed(_TEXTS):
        reading = option(reading)
    return reading  # type: ignore[return-value]


def check_files(paths: Sequence[Path]) -> None:
    """Raise `click.UsageError` if one of the paths is a folder."""
    for path in paths:
        if path.is_dir():
            raise click.UsageError(f"{path} is a folder: --texts needs files of texts")


def check_folder(path: Path) -> None:
    """Raise `click.UsageError` if the path is a file."""
    if not path.is_dir():
        raise click.UsageError(
            f"{path} is a file: build needs a folder of images, or a file of texts with --texts; "
            "tuwen index add accepts single images"
        )


_TEXTS = (
    click.option("--texts", is_flag=True, help="Index texts: one per line, or one per record of CSV, TSV or JSONL."),
    click.option("--text-column", metavar="NAME", help="The column of the texts; text or caption by default."),
    click.option(
        "--key-column",
        metavar="NAME",
        help="The column that names them; id or key by default, otherwise the line number.",
    ),
    options.encoding,
)


@click.group()
def index() -> None:
    """Build and maintain an index of images and texts."""


index.add_command(duplicates)
index.add_command(copy)
index.add_command(migrate)


@index.command(
    cls=Command,
    examples=(
        "tuwen index build PHOTOS/ --index photos.tuwen",
        "tuwen index build PHOTOS/ --index photos.tuwen --model demo --json --progress json",
        "tuwen index build captions.txt --texts --index captions.tuwen",
        "tuwen index build PHOTOS/ --index photos.tuwen --kind ivf",
    ),
)
@click.argument("photos", type=options.EXISTING)
@with_texts
@options.selected
@options.index
@options.designed
@options.computing
@options.progress
@options.as_json
def build(
    *,
    computing: Computing,
    asked: Mapping[str, str],
    photos: Path,
    texts: Columns | None,
    selection: Selection | None,
    folder: Location | None,
    progress: str,
    as_json: bool,
) -> int:
    """Index every image in the folder PHOTOS, or with --texts every text in the file PHOTOS.

    Rerun the command to resume or update: new and changed files are read, and the others are left as they are. Rows
    of deleted files are kept. --kind, --metric and --store are fixed when the index is created.
    """
    target, computing = options.index_folder(folder), computing.measuring()
    if texts is not None:
        check_files([photos])
        with opened_or_new(target, photos.absolute().parent, computing, asked, anywhere=True) as (encoder, store):
            return fill_texts([photos], encoder, store, texts, Shown(target, progress, as_json, "row"))
    check_folder(photos)
    with opened_or_new(target, photos, computing, asked) as (encoder, store):
        return fill([photos], encoder, store, Shown(target, progress, as_json), selection)


@index.command(
    cls=Command,
    examples=(
        "tuwen index add MORE/ cat.jpg --index photos.tuwen",
        "tuwen index add captions.csv --texts --text-column caption --index photos.tuwen",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=options.EXISTING)
@with_texts
@options.selected
@options.place
@options.computing
@options.progress
@options.as_json
def add(
    *,
    computing: Computing,
    paths: Sequence[Path],
    texts: Columns | None,
    selection: Selection | None,
    place: Location | Address,
    progress: str,
    as_json: bool,
) -> int:
    """Add images, folders of images, or with --texts files of texts, to an index.

    A path below the index's root is stored relative to it, and any other as an absolute path. With --url, the images
    are sent to the service, which stores them below its own root, named after their content.
    """
    if isinstance(place, Address):
        if texts is not None:
            raise click.UsageError(f"the service at {place} accepts images only: leave out --texts")
        with place.client() as client:
            return upload(paths, client, Shown(place, progress, as_json))
    if texts is not None:
        check_files(paths)
    with opened(place, computing) as (encoder, store):
        if texts is not None:
            return fill_texts(paths, encoder, store, texts, Shown(place, progress, as_json, "row"))
        return fill(paths, encoder, store, Shown(place, progress, as_json), selection)


@index.command(
    cls=Command,
    examples=(
        "tuwen index remove 2023/cat.jpg --index photos.tuwen",
        "tuwen index remove PHOTOS/2023/ --index photos.tuwen",
    ),
)
@click.argument("paths", nargs=-1, required=True)
@options.place
@options.as_json
def remove(paths: Sequence[str], place: Location | Address, as_json: bool) -> int:
    """Remove images and texts from an index; files are not deleted.

    A PATH is one that `tuwen index list` shows, or a file or folder, which need not exist any more; a folder stands
    for everything below it. With --url, a file that was added through the service is deleted with its row.
    """
    with opened_alone(place) as store:
        root = store.root if isinstance(store, VectorIndex) else Path()  # a service's folders are not on this machine
        report = take_out(paths, store, root)
    show_report(report, Shown(place, "none", as_json))
    return REJECTED if report.rejected else 0


index.add_command(sync)


@index.command(cls=Command, examples=("tuwen index info --index photos.tuwen",))
@options.place
@options.as_json
def info(place: Location | Address, as_json: bool) -> None:
    """Show the size, kind and model of an index."""
    with opened_alone(place) as store:
        facts, calibration = store.info(), store.calibration()
        notes = (*facts.notes, *(store.migration_notes() if isinstance(store, VectorIndex) else ()))
    measured = {kind: calibration and getattr(calibration, kind) for kind in QUERY_KINDS}
    document = {
        "index": str(place),
        "rows": facts.rows,
        "dim": facts.dim,
        "metric": facts.metric,
        "kind": facts.kind,
        "store": facts.store,
        "searched": facts.searched,
        "model": facts.model,
        "fingerprint": facts.fingerprint,
        "bytes": facts.bytes,
    }
    for note in notes:
        say(note)
    thresholds = {kind: it and it.threshold for kind, it in measured.items()}
    left_out = read_selection(place if isinstance(place, Path) else None).left_out
    if as_json:
        emit({**document, "notes": notes, "thresholds": thresholds, "left_out": left_out})
    else:
        known = {fact: value for fact, value in document.items() if value is not None}
        known |= {f"threshold, {kind}": f"{value:.3f}" for kind, value in thresholds.items() if value is not None}
        known |= {f"left out, {reason}": number for reason, number in sorted(left_out.items())}
        table(("fact", "value"), known.items())


@index.command(
    "list",
    cls=Command,
    examples=(
        "tuwen index list --index photos.tuwen",
        """tuwen index list --index photos.tuwen --where 'format == "PNG"' --json""",
        "tuwen index list --index photos.tuwen --sort -taken",
    ),
)
@options.place
@click.option("--where", metavar="FILTER", help="""For example 'width >= 1024 and folder == "2023"'.""")
@options.sort
@options.as_json
def list_(place: Location | Address, where: str | None, sort: str | None, as_json: bool) -> None:
    """List the rows of an index: one path per line, or complete rows with --json."""
    with opened_alone(place) as store:
        if as_json:
            rows = [{"id": row.id, "payload": dict(row.payload)} for row in store.list(where, sort or "path")]
            emit({"index": str(place), "rows": rows})
            return
        for key in store.keys(where, sort or "path"):
            click.echo(printable(key))


@index.command(
    cls=Command,
    examples=(
        "tuwen index facets --index photos.tuwen --by year",
        """tuwen index facets --index photos.tuwen --by camera --where 'taken >= 2023'""",
    ),
)
@options.place
@click.option("--by", default="year", show_default=True, help="year, month, camera, folder, or another field of texts.")
@click.option("--where", metavar="FILTER", help="""For example 'camera contains "Canon"'.""")
@options.as_json
def facets(place: Location | Address, by: str, where: str | None, as_json: bool) -> None:
    """Count the rows of an index by year, camera, folder or another field."""
    with opened_alone(place) as store:
        found = store.facets(by, where)
    if as_json:
        emit(
            {
                "index": str(place),
                "by": by,
                "facets": [{"name": name, "rows": number} for name, number in found.items()],
            }
        )
    else:
        table((by, "rows"), [(printable(name), number) for name, number in found.items()], numbers=(1,))


index.add_command(import_)
index.add_command(export)
