"""`tuwen demo`: the packaged gallery, indexed and searched in several languages."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from tuwen.cli import options
from tuwen.cli.command import Command, say
from tuwen.cli.console import count, emit, table
from tuwen.cli.ingest import ingest_shown
from tuwen.cli.locations import opened_or_new
from tuwen.cli.search import as_document, draw_sheet
from tuwen.demo import demo_gallery
from tuwen.index.index import VectorIndex
from tuwen.index.manifest import MANIFEST
from tuwen.runtime.encoder import Encoder
from tuwen.search.search import Term, Wanted, search
from tuwen.types import Hit

QUERIES = (
    ("en", "a red heart"),
    ("zh", "一只猫"),
    ("ja", "富士山"),
    ("fr", "un croissant"),
    ("ru", "дождь"),
    ("ar", "سيارة"),
    ("hi", "हाथी"),
    ("ko", "피자"),
)
"""a language, and a query in it that the model knows; `recipes/emoji` measures how well it knows others"""

NEXT = """
What to type next:
    tuwen search "sleepy face" --index {index}
    tuwen search "雨伞" --index {index} -k 12 --sheet hits.png
    tuwen search --image {picture} --index {index}
    tuwen search --like "cat" --like "love" --index {index}
    tuwen models    # photos need a model of photos: tuwen pull MODEL
    tuwen index build PHOTOS/ --index photos.tuwen --model MODEL
    tuwen doctor
    tuwen --help
"""


@click.command(cls=Command, examples=("tuwen demo", "tuwen demo --output /tmp/see -k 12"))
@click.option(
    "--output",
    type=options.ANY_PATH,
    default=Path("demo-output"),
    show_default=True,
    help="The folder for the index and the contact sheets; those of an earlier demo are replaced.",
)
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=5, show_default=True, help="Number of hits for each query."
)
@options.as_json
def demo(output: Path, k: int, as_json: bool) -> None:
    """Index and search the packaged gallery.

    The hits of queries in several languages are printed, and drawn on contact sheets. Nothing is downloaded. The
    packaged model knows pictograms; photos need a model of photos.
    """
    computing = options.as_set("demo")
    folder = output / "gallery.tuwen"
    if (folder / MANIFEST).exists():
        shutil.rmtree(folder)
    with opened_or_new(folder, demo_gallery(), computing) as (encoder, index):
        report = ingest_shown([demo_gallery()], encoder, index, "auto")
        say(f"{count(report.rows, 'picture')} in {folder} after {report.seconds:.1f} s, model {encoder.name}")
        found = [_Found(language, query, _search(query, encoder, index, k)) for language, query in QUERIES]
        for place, one in enumerate(found, start=1):
            draw_sheet(one.hits, index.root, _sheet(output, place, one), computing.settings.max_pixels)
    if as_json:
        searches = [_document(one, _sheet(output, place, one)) for place, one in enumerate(found, start=1)]
        emit({"index": str(folder), "model": encoder.name, "searches": searches})
        return
    for place, one in enumerate(found, start=1):
        _show(one, _sheet(output, place, one))
    click.echo(NEXT.format(index=folder, picture=demo_gallery() / str(found[0].hits[0].payload["path"])))


@dataclass(frozen=True, slots=True)
class _Found:
    """The hits of one query, and its language."""

    language: str
    query: str
    hits: list[Hit]


def _search(query: str, encoder: Encoder, index: VectorIndex, k: int) -> list[Hit]:

    return search([Term(query)], encoder, index, Wanted(k=k))


def _sheet(output: Path, place: int, found: _Found) -> Path:
    return output / f"{place:02}-{found.language}.png"


def _document(found: _Found, sheet: Path) -> dict[str, object]:
    hits = [as_document(hit) for hit in found.hits]
    return {"query": found.query, "language": found.language, "hits": hits, "sheet": str(sheet)}


def _show(found: _Found, sheet: Path) -> None:
    rows = [
        (rank, f"{hit.score:.3f}", Path(str(hit.payload["name"])).stem, hit.payload["path"])
        for rank, hit in enumerate(found.hits, start=1)
    ]
    click.echo(f"\n{found.query}  ({found.language}: {sheet})")
    table(("rank", "score", "name", "path"), rows, numbers=(0, 1))
