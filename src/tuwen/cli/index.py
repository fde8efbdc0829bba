"""`tuwen index …`: what is in an index, and how it gets there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.copying import copy
from tuwen.cli.duplicates import duplicates
from tuwen.cli.ending import REJECTED, say
from tuwen.cli.exchange import export, import_
from tuwen.cli.filling import Shown, fill, fill_texts, show_report, upload
from tuwen.cli.options import Address, Computing
from tuwen.cli.output import emit, printable, table
from tuwen.cli.sync import sync
from tuwen.cli.texts import check_files, check_folder, with_texts
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.prepare.captions import Columns


@click.group()
def index() -> None:
    """Build and look after an index of pictures and texts."""


index.add_command(duplicates)
index.add_command(copy)


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
    texts: "Columns | None",
    folder: Place | None,
    progress: str,
    as_json: bool,
) -> int:
    """Index every picture below PHOTOS; with --texts, every text of the file PHOTOS.

    Run again, it goes on where it was stopped: new and changed files are read, the others are left alone. Files
    that have vanished keep their rows. --kind, --metric and --store are of the index when it is made.
    """
    from tuwen.cli.opening import opened_or_new

    target = options.index_folder(folder)
    if texts is not None:
        check_files([photos])
        with opened_or_new(target, photos.absolute().parent, computing, asked, anywhere=True) as (encoder, store):
            return fill_texts([photos], encoder, store, texts, Shown(target, progress, as_json, "row"))
    check_folder(photos)
    with opened_or_new(target, photos, computing, asked) as (encoder, store):
        return fill([photos], encoder, store, computing, Shown(target, progress, as_json))


@index.command(
    cls=Command,
    examples=(
        "tuwen index add MORE/ cat.jpg --index photos.tuwen",
        "tuwen index add captions.csv --texts --text-column caption --index photos.tuwen",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=options.EXISTING)
@with_texts
@options.place
@options.computing
@options.progress
@options.as_json
def add(
    computing: Computing,
    paths: Sequence[Path],
    texts: "Columns | None",
    place: Place | Address,
    progress: str,
    as_json: bool,
) -> int:
    """Add pictures, folders of pictures, or with --texts files of texts, to an index.

    A path below the index's root is stored relative to it, any other as an absolute path. With --url the pictures
    are sent to the service, which keeps them below its own root and calls them by their content.
    """
    from tuwen.cli.opening import opened

    if isinstance(place, Address):
        if texts is not None:
            raise click.UsageError(f"the service at {place} takes pictures, not --texts")
        with place.client() as client:
            return upload(paths, client, Shown(place, progress, as_json))
    if texts is not None:
        check_files(paths)
    with opened(place, computing) as (encoder, store):
        if texts is not None:
            return fill_texts(paths, encoder, store, texts, Shown(place, progress, as_json, "row"))
        return fill(paths, encoder, store, computing, Shown(place, progress, as_json))


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
def remove(paths: Sequence[str], place: Place | Address, as_json: bool) -> int:
    """Take pictures and texts out of an index; the files stay where they are.

    A PATH is what `tuwen index list` shows, or a file or folder, there or gone; a folder stands for all below it.
    With --url, a file that was added through the service goes with its row.
    """
    from tuwen.cli.opening import opened_alone
    from tuwen.tasks.remove import remove as take_out

    with opened_alone(place) as store:
        report = take_out(paths, store)
    show_report(report, Shown(place, "none", as_json))
    return REJECTED if report.rejected else 0


index.add_command(sync)


@index.command(cls=Command, examples=("tuwen index info --index photos.tuwen",))
@options.place
@options.as_json
def info(place: Place | Address, as_json: bool) -> None:
    """Show what an index holds, and of which model."""
    from tuwen.cli.opening import opened_alone
    from tuwen.index.calibration import QUERY_KINDS

    with opened_alone(place) as store:
        facts, calibration = store.info(), store.calibration()
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
    for note in facts.notes:
        say(note)
    thresholds = {kind: it and it.threshold for kind, it in measured.items()}
    if as_json:
        emit({**document, "notes": facts.notes, "thresholds": thresholds})
    else:
        known = {fact: value for fact, value in document.items() if value is not None}
        said = {f"threshold, {kind}": f"{value:.3f}" for kind, value in thresholds.items() if value is not None}
        table(("fact", "value"), {**known, **said}.items())


@index.command(
    "list",
    cls=Command,
    examples=(
        "tuwen index list --index photos.tuwen",
        """tuwen index list --index photos.tuwen --where 'format == "PNG"' --json""",
    ),
)
@options.place
@click.option("--where", metavar="FILTER", help="""E.g. 'width >= 1024 and folder == "2023"'.""")
@options.as_json
def list_(place: Place | Address, where: str | None, as_json: bool) -> None:
    """List what is in an index: one path a line, or whole rows with --json."""
    from tuwen.cli.opening import opened_alone

    with opened_alone(place) as store:
        if as_json:
            rows = [{"id": row.id, "payload": dict(row.payload)} for row in store.list(where=where)]
            emit({"index": str(place), "rows": rows})
            return
        for key in store.keys(where):
            click.echo(printable(key))


index.add_command(import_)
index.add_command(export)
