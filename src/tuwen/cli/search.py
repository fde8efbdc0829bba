"""`tuwen search`: what is looked for, in words or pictures, and the hits."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.ending import say
from tuwen.cli.options import Computing
from tuwen.cli.output import emit, table

if TYPE_CHECKING:
    from tuwen.tasks.search import Term
    from tuwen.types import Hit


@click.command(
    cls=Command,
    examples=(
        'tuwen search "一只狗在草地上" --index photos.tuwen -k 12',
        "tuwen search --image cat.jpg --index photos.tuwen --sheet hits.png",
        'tuwen search --like "at night" --like cat.jpg:0.5 --unlike "people" --index photos.tuwen',
        """tuwen search "sunset" --index photos.tuwen --where 'width >= 1024 and folder == "2023"'""",
    ),
)
@click.argument("query", required=False)
@click.option("--image", type=options.FILE, help="A picture that hits shall be like.")
@click.option("--like", multiple=True, metavar="TEXT|FILE[:WEIGHT]", help="What hits shall be like; repeatable.")
@click.option("--unlike", multiple=True, metavar="TEXT|FILE[:WEIGHT]", help="What not; repeatable.")
@options.index
@click.option("-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many hits.")
@click.option("--min-score", type=float, help="Leave out hits of a lower cosine.")
@click.option("--where", metavar="FILTER", help="""E.g. 'width >= 1024 and folder == "2023"'.""")
@click.option("--exact", is_flag=True, help="Compare with every row instead of asking the approximate index.")
@click.option("--sheet", type=options.NEW_FILE, metavar="PNG", help="Draw the hits on one picture, too.")
@options.computing
@options.as_json
def search(
    *,
    computing: Computing,
    query: str | None,
    image: Path | None,
    like: Sequence[str],
    unlike: Sequence[str],
    folder: Path | None,
    k: int,
    min_score: float | None,
    where: str | None,
    exact: bool,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Find pictures by texts and pictures, added and subtracted.

    QUERY is taken as it is. What --like and --unlike are given is a picture if a file of that name exists, else a
    text; it may end in a weight, a colon and a number with a decimal point: cat.jpg:0.5.
    """
    from tuwen.cli.opening import opened
    from tuwen.tasks.notes import text_notes
    from tuwen.tasks.search import Wanted, describe
    from tuwen.tasks.search import search as find

    terms = _terms(query, image, like, unlike)
    with opened(options.index_folder(folder), computing) as (encoder, index):
        for note in text_notes([term.what for term in terms if isinstance(term.what, str)], encoder):
            say(note)
        hits = find(terms, encoder, index, Wanted(k, min_score, where, exact=exact))
        if sheet is not None and hits:
            draw_sheet(hits, index.root, sheet, computing.settings.max_pixels)
            say(f"sheet: {sheet}")
    if as_json:
        emit({"query": describe(terms), "model": encoder.name, "hits": [as_document(hit) for hit in hits]})
    else:
        show(hits)


def _terms(query: str | None, image: Path | None, like: Sequence[str], unlike: Sequence[str]) -> "list[Term]":
    from dataclasses import replace

    from tuwen.tasks.search import Term, parse_term

    liked = [Term(query)] if query is not None else []
    liked += [Term(image)] if image is not None else []
    liked += [parse_term(operand) for operand in like]
    unliked = [replace(term, weight=-term.weight) for term in map(parse_term, unlike)]
    if not liked and not unliked:
        raise click.UsageError("nothing to look for: give a QUERY, --image, --like or --unlike")
    return liked + unliked


def as_document(hit: "Hit") -> dict[str, object]:
    """A hit as `--json` prints it."""
    return {"id": hit.id, "score": hit.score, "payload": dict(hit.payload)}


def show(hits: "Sequence[Hit]") -> None:
    """A table of hits: rank, score, size in pixels and path."""
    if not hits:
        say("nothing found")
        return
    rows = [
        (rank, f"{hit.score:.3f}", f"{hit.payload['width']}×{hit.payload['height']}", hit.payload["path"])
        for rank, hit in enumerate(hits, start=1)
    ]
    table(("rank", "score", "size", "path"), rows, numbers=(0, 1, 2))


def draw_sheet(hits: "Sequence[Hit]", root: Path, file: Path, max_pixels: int) -> None:
    """Write a contact sheet of the hits."""
    from tuwen.tasks.sheet import contact_sheet

    contact_sheet(hits, root, max_pixels=max_pixels).save(file, format="PNG")
