"""`tuwen index duplicates`: pictures of an index that are nearly the same."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.ending import say
from tuwen.cli.output import count, emit, printable
from tuwen.cli.progress import Progress

if TYPE_CHECKING:
    from tuwen.tasks.duplicates import Group


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
    help="The cosine from which two are nearly the same.",
)
@options.progress
@options.as_json
def duplicates(folder: Path | None, threshold: float, progress: str, as_json: bool) -> None:
    """List groups of pictures that are nearly the same.

    One path a line, an empty line between groups; in each the picture with most pixels comes first. Where a is near
    b and b near c, all are in one group. Nothing is changed.
    """
    from tuwen.index.index import Index
    from tuwen.tasks.duplicates import Duplicates

    target = options.index_folder(folder)
    patience = options.read_settings().lock_timeout
    with Index.open(target, encoder=None, lock_timeout=patience) as store, Progress(progress) as shown:
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


def _show(groups: "list[Group]") -> None:
    for place, group in enumerate(groups):
        click.echo("\n" if place else "", nl=False)
        for row in group:
            click.echo(printable(str(row.payload["path"])))
    say(f"{count(len(groups), 'group')} of {count(sum(map(len, groups)), 'row')}")
