"""`tuwen index copy`: an index to another place, or into another store."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.ending import INTERRUPTED, say
from tuwen.cli.output import count, emit
from tuwen.cli.progress import Progress
from tuwen.errors import IndexNotFound
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.tasks.copying import CopyReport


@click.command(
    cls=Command,
    examples=(
        "tuwen index copy photos.tuwen qdrant://host:6333/photos",
        "tuwen index copy qdrant://host:6333/photos back.tuwen",
        "tuwen index copy photos.tuwen files.tuwen --kind ivf --json",
    ),
)
@click.argument("source", metavar="FROM", type=options.PLACE)
@click.argument("target", metavar="TO", type=options.PLACE)
@options.designed
@options.progress
@options.as_json
def copy(asked: Mapping[str, str], source: Place, target: Place, progress: str, as_json: bool) -> int:
    """Copy all rows of an index into another: folder to cluster, cluster to folder, one store to another.

    Keys, ids, facts and vectors stay exactly as they are; nothing is encoded again. TO is made where there is no
    index yet. Run again, it goes on where it was stopped. FROM stays as it is, and so do rows that only TO has.
    """
    begun, ended = options.index_folder(source), options.index_folder(target)
    try:
        with _both(begun, ended, asked) as (old, new):
            report = _shown(old, new, progress)
            notes = new.info().notes
    except KeyboardInterrupt:
        say("stopped: run the same command again to go on")
        return INTERRUPTED
    for note in notes:
        say(note)
    if as_json:
        emit(
            {
                "from": str(begun),
                "to": str(ended),
                "rows": report.rows,
                "copied": report.copied,
                "unchanged": report.unchanged,
                "seconds": round(report.seconds, 3),
            }
        )
    else:
        there = f", {report.unchanged:,} were there" if report.unchanged else ""
        click.echo(f"{begun} to {ended}: {count(report.copied, 'row')} copied{there}; {report.seconds:.1f} s")
    return 0


@contextmanager
def _both(source: Place, target: Place, asked: Mapping[str, str]) -> "Iterator[tuple[Index, Index]]":
    """Both indexes, open; the target is made where there is none."""
    from tuwen.cli.opening import check_design
    from tuwen.index.facts import KnownModel
    from tuwen.index.index import Index
    from tuwen.index.opening import design_at, make, manifest_of, root_of

    known = manifest_of(source)
    model = KnownModel(known.model, known.dim, known.fingerprint, (known.precisions or ("fp32",))[0])
    try:
        check_design(manifest_of(target), target, asked)
    except IndexNotFound:
        chosen = design_at(target, {"metric": known.metric, **asked})
        make(target, model, root_of(known, source), chosen, bundle=known.bundle)
    settings = options.read_settings()
    patience, above = settings.lock_timeout, settings.quantize_above
    with (
        Index.open(source, encoder=None, lock_timeout=patience) as old,
        Index.open(target, encoder=model, lock_timeout=patience, quantize_above=above) as new,
    ):
        for precision in known.precisions:
            new.computed_in(precision)
        yield old, new


def _shown(source: "Index", target: "Index", progress: str) -> "CopyReport":
    """Copy, and show how far it is; the report of the whole run."""
    from tuwen.tasks.copying import copy as copied

    with Progress(progress) as shown, closing(copied(source, target)) as reports:
        before = target.info().rows
        shown.begin(source.info().rows if shown.draws else None)
        for report in reports:
            shown.show(report.copied + report.unchanged, max(before, report.copied + report.unchanged))
    return report
