"""`tuwen search`: a query by texts and images, and its hits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import emit, list_rejected, shortened, table
from tuwen.cli.locations import Searched, opened_to_search
from tuwen.cli.options import Computing
from tuwen.cli.saved_hits import check_new_folder, save_images, write_csv
from tuwen.errors import InvalidInput
from tuwen.index.location import Location
from tuwen.search.query import Named, doubts, parse_compose, path_instead_of_text, path_kind
from tuwen.search.search import Term, Wanted, describe, parse_term
from tuwen.search.sheet import contact_sheet
from tuwen.types import Hit, Rejected

OPERAND = "TEXT|FILE|id:ROW[:WEIGHT]"
NOTHING = "nothing here matches"
UNIQUE = "Show near-duplicates once; 0.97 is a good start."


class MinScore(click.ParamType[float | str]):
    """A cosine, or `auto`."""

    name = "min-score"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:  # noqa: ANN401
        """The number, or the word; a usage error for anything else."""
        try:
            return "auto" if value == "auto" else float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor auto", param, ctx)


MIN_SCORE = MinScore()


@click.command(
    cls=Command,
    examples=(
        'tuwen search "一只狗在草地上" --index photos.tuwen -k 12',
        "tuwen search --image cat.jpg --index photos.tuwen --sheet hits.png",
        'tuwen search --like "at night" --like cat.jpg:0.5 --unlike "people" --index photos.tuwen',
        'tuwen search --compose "beach + 0.5 * sunset - people" --index photos.tuwen --unique 0.97',
        'tuwen search "our dog" --index photos.tuwen -k 50 --copy-to dog/ --csv dog.csv',
        "tuwen search --like id:1b671a64-40d5-591e-99b0-da01ff1f3341 --strategy best --index photos.tuwen",
        'tuwen search "sunset" --index photos.tuwen -k 50 --sort -taken',
        """tuwen search "sunset" --index photos.tuwen --where 'width >= 1024 and folder == "2023"'""",
    ),
)
@click.argument("query", required=False)
@click.option("--image", type=options.FILE, help="Search by this image.")
@click.option("--like", multiple=True, metavar=OPERAND, help="What hits should resemble; repeatable.")
@click.option("--unlike", multiple=True, metavar=OPERAND, help="What hits should not resemble; repeatable.")
@click.option("--compose", metavar="TERMS", help='A whole query in one line: "beach + 0.5 * sunset - people".')
@options.place
@click.option("-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Number of hits.")
@click.option(
    "--min-score",
    type=MIN_SCORE,
    metavar="COSINE|auto",
    help="Leave out hits with a lower score; auto: the threshold of tuwen calibrate.",
)
@click.option("--where", metavar="FILTER", help="""E.g. 'width >= 1024 and folder == "2023"'.""")
@click.option("--exact", is_flag=True, help="Compare with every row instead of the approximate index.")
@click.option(
    "--strategy",
    type=click.Choice(["average", "best"]),
    default="average",
    show_default=True,
    help="Search near the sum of all --like terms, or near any one of them.",
)
@click.option(
    "--diversity", type=click.FloatRange(0, 1), default=0.0, help="How much hits should differ from each other, 0 to 1."
)
@click.option("--unique", type=click.FloatRange(0, 1, min_open=True), metavar="COSINE", help=UNIQUE)
@options.sort
@click.option(
    "--sheet", type=options.NEW_PICTURE, metavar="FILE", help="Also draw the hits on a contact sheet (png, jpg, webp)."
)
@click.option("--copy-to", type=options.ANY_PATH, metavar="DIR", help="Copy the images found into this new folder.")
@click.option("--symlink-to", type=options.ANY_PATH, metavar="DIR", help="Link to the images found in this new folder.")
@click.option("--csv", "csv_file", type=options.NewFile(".csv"), metavar="FILE", help="Also write the hits as CSV.")
@options.computing
@options.as_json
def search(
    *,
    computing: Computing,
    query: str | None,
    image: Path | None,
    like: Sequence[str],
    unlike: Sequence[str],
    compose: str | None,
    place: Location | options.Address,
    sheet: Path | None,
    copy_to: Path | None,
    symlink_to: Path | None,
    csv_file: Path | None,
    as_json: bool,
    min_score: float | str | None,
    sort: str | None,
    **wanted: Any,  # noqa: ANN401  (the fields of `Wanted`, by their names)
) -> int:
    """Search an index by text, by image, or by both.

    QUERY is a text. An operand of --like and --unlike is an image if a file of that name exists, a row if it is the
    path of a row or id: and a row's id, and otherwise a text. It may end in a weight, a colon and a number with a
    decimal point: cat.jpg:0.5. Rows named this way are never returned.
    """
    asked = _Asked(query, image, like, unlike, compose)
    asked.check()
    saving = _Saving(sheet, copy_to, symlink_to, csv_file)
    saving.check(place)
    with opened_to_search(place, computing) as searched:
        terms = asked.terms(searched.rows)
        _tell(searched, terms, query)
        least = _threshold(searched, terms) if isinstance(min_score, str) else min_score
        hits = searched.search(terms, Wanted(min_score=least, **wanted), sort)
        model = searched.model if as_json else ""
        rejected = saving.save(hits, searched, computing.settings.max_pixels)
    list_rejected(rejected)
    if as_json:
        shown = [as_document(hit, similar=wanted["unique"] is not None) for hit in hits]
        emit({"query": describe(terms), "model": model, "hits": shown})
    else:
        show(hits, "nothing found" if least is None else NOTHING)
    return REJECTED if rejected else 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """The query as it is typed."""

    query: str | None
    image: Path | None
    like: Sequence[str]
    unlike: Sequence[str]
    compose: str | None

    def check(self) -> None:
        """Refuse a query that says nothing, and a path where a text is meant to be.

        Raises:
            click.UsageError: there is no query.
            InvalidInput: QUERY is the path of an image, or an operand is a folder.
        """
        if self.query is None and self.compose is None and not (self.image or self.like or self.unlike):
            raise click.UsageError("no query: give a QUERY, --image, --like, --unlike or --compose")
        if self.query is not None and (kind := path_instead_of_text(self.query)):
            question = f"did you mean --image {self.query}?" if kind == "file" else "name an image in it with --image"
            raise InvalidInput(
                f"{self.query} is a {kind}, and QUERY is a text: {question}", value=self.query, where="QUERY"
            )
        for option, operands in (("--like", self.like), ("--unlike", self.unlike)):
            for operand in operands:
                what = parse_term(operand).what
                if isinstance(what, str) and path_kind(what) == "folder":
                    raise InvalidInput(
                        f"{option} {operand}: {what} is a folder: name an image in it. A text of that name can be "
                        "given as QUERY or in --compose",
                        value=operand,
                        where=option,
                    )

    def terms(self, index: Named) -> list[Term]:
        """All of it, in the order of the options' help."""
        liked = [Term(what) for what in (self.query, self.image) if what is not None]
        liked += [parse_term(operand, index) for operand in self.like]
        unliked = [parse_term(operand, index) for operand in self.unlike]
        composed = [] if self.compose is None else parse_compose(self.compose, index)
        return [*liked, *(replace(term, weight=-term.weight) for term in unliked), *composed]


@dataclass(frozen=True, slots=True)
class _Saving:
    """Where the hits are saved, besides the table; None: not."""

    sheet: Path | None
    copy_to: Path | None
    symlink_to: Path | None
    csv: Path | None

    def check(self, place: Location | options.Address) -> None:
        """Refuse what cannot be written, before anything is searched."""
        for folder in (self.copy_to, self.symlink_to):
            if folder is not None:
                check_new_folder(folder)
        if self.symlink_to is not None and isinstance(place, options.Address):
            raise click.UsageError(f"--symlink-to cannot link to files of the service at {place}: use --copy-to")

    def save(self, hits: Sequence[Hit], searched: Searched, max_pixels: int) -> list[Rejected]:
        """Write all of it; returns the images that could not be copied or linked."""
        rejected: list[Rejected] = []
        if self.csv is not None:
            write_csv(hits, self.csv)
        if not hits or not (self.sheet or self.copy_to or self.symlink_to):
            return rejected
        with searched.to_draw(hits) as (files, root):
            if self.sheet is not None:
                _draw(files, root, self.sheet, max_pixels)
            if self.copy_to is not None:
                rejected += save_images(hits, files, root, self.copy_to, link=False)
            if self.symlink_to is not None:
                rejected += save_images(hits, files, root, self.symlink_to, link=True)
        return rejected


def as_document(hit: Hit, *, similar: bool = False) -> dict[str, object]:
    """A hit as `--json` prints it; with `similar`, also the ids of its near-duplicates."""
    document = {"id": hit.id, "score": hit.score, "payload": dict(hit.payload)}
    return {**document, "similar": list(hit.similar)} if similar else document


def _tell(searched: Searched, terms: Sequence[Term], query: str | None) -> None:
    """Print notes about the texts of a query."""
    texts = [term.what for term in terms if isinstance(term.what, str)]
    for note in (*doubts(texts[query is not None :]), *searched.notes(texts)):
        say(note)


def _threshold(searched: Searched, terms: Sequence[Term]) -> float:
    auto = searched.threshold(terms)
    if auto.doubt:
        say(auto.doubt)
    return auto.min_score


def show(hits: Sequence[Hit], nothing: str) -> None:
    """Print a table of hits: rank, score, size in pixels, and path or text; or a line where there are none."""
    if not hits:
        say(nothing)
        return
    rows = [(rank, f"{hit.score:.3f}", _size(hit), _name(hit)) for rank, hit in enumerate(hits, start=1)]
    table(("rank", "score", "size", "path"), rows, numbers=(0, 1, 2))


def _size(hit: Hit) -> str:
    """Width and height; nothing for a text."""
    return f"{hit.payload['width']}×{hit.payload['height']}" if "width" in hit.payload else ""


def _name(hit: Hit) -> str:
    path = hit.payload["path"]
    name = f"{shortened(str(hit.payload['text']), 60)}  [{path}]" if is_text(hit) else path
    return f"{name}{f'  (+{len(hit.similar)} similar)' if hit.similar else ''}"


def is_text(hit: Hit) -> bool:
    """Whether the row is a text; others are images."""
    return hit.payload.get("type") == "text"


def _draw(hits: Sequence[Hit], root: Path, file: Path, max_pixels: int) -> None:
    """Write a contact sheet, and say where."""
    if all(map(is_text, hits)):
        say("no sheet is written: all hits are texts")
        return
    draw_sheet(hits, root, file, max_pixels)
    say(f"sheet: {file}")


def draw_sheet(hits: Sequence[Hit], root: Path, file: Path, max_pixels: int) -> None:
    """Write a contact sheet of the images among the hits."""
    contact_sheet(hits, root, max_pixels=max_pixels).save(file, quality=90)
