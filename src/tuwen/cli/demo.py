"""`tuwen demo`: a packaged gallery, indexed and searched in several languages and by picture."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from tuwen.api import Index
from tuwen.cli import options
from tuwen.cli.command import Command, say
from tuwen.cli.console import count, emit, table
from tuwen.cli.ingest import ingest_shown
from tuwen.cli.locations import opened_or_new
from tuwen.cli.search import as_document, draw_sheet
from tuwen.demo import PHOTO, PICTOGRAMS, demo_gallery, photo_credits, photo_gallery
from tuwen.index.manifest import MANIFEST
from tuwen.index.store import row_id
from tuwen.search.query import RowId
from tuwen.types import Hit


@dataclass(frozen=True, slots=True)
class Gallery:
    """A packaged gallery and what is searched in it.

    Attributes:
        folder: its pictures.
        model: the packaged model that knows such pictures.
        queries: language -> a query in it.
        picture: the path within the gallery of a picture to search with.
        next: what to type next; `{index}` and `{picture}` stand for the demo's.
        credits: path -> the author, licence and source of a picture, where they differ from picture to picture.
    """

    folder: Path
    model: str
    queries: Mapping[str, str]
    picture: str
    next: tuple[str, ...]
    credits: Mapping[str, Mapping[str, str]]


COMMON = (
    "tuwen search --image {picture} --index {index}",
    "tuwen serve --index {index}    # the same on a page in the browser",
    "tuwen index build PHOTOS/ --index photos.tuwen    # your own photos",
    "tuwen models    # models that understand more",
    "tuwen doctor",
    "tuwen --help",
)


def photos() -> Gallery:
    """The gallery of photos."""
    return Gallery(
        folder=photo_gallery(),
        model=PHOTO,
        queries={
            "en": "a bee on a flower",
            "zh": "一只猫",
            "ja": "橋",
            "fr": "un château sur une colline",
            "de": "Menschen machen Musik",
            "ar": "سيارة",
        },
        picture="animals/tabby-cat.jpg",
        next=(
            'tuwen search "a cup of coffee" --index {index}',
            'tuwen search "热气球" --index {index} -k 12 --sheet hits.png',
            'tuwen search --like "bird" --unlike "grass" --index {index}',
            *COMMON,
            "tuwen demo --gallery pictograms",
        ),
        credits=photo_credits(),
    )


def pictograms() -> Gallery:
    """The gallery of pictograms."""
    return Gallery(
        folder=demo_gallery(),
        model=PICTOGRAMS,
        queries={
            "en": "a red heart",
            "zh": "一只猫",
            "ja": "富士山",
            "fr": "un croissant",
            "ru": "дождь",
            "ar": "سيارة",
            "hi": "हाथी",
            "ko": "피자",
        },
        picture="animals-and-nature/cat.webp",
        next=(
            'tuwen search "sleepy face" --index {index}',
            'tuwen search "雨伞" --index {index} -k 12 --sheet hits.png',
            'tuwen search --like "cat" --like "love" --index {index}',
            *COMMON,
        ),
        credits={},
    )


GALLERIES = {"photos": photos, "pictograms": pictograms}


@click.command(cls=Command, examples=("tuwen demo", "tuwen demo --gallery pictograms --output /tmp/see -k 12"))
@click.option(
    "--gallery", "name", type=click.Choice(list(GALLERIES)), default="photos", show_default=True, help="The gallery."
)
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
def demo(name: str, output: Path, k: int, as_json: bool) -> None:
    """Index and search a packaged gallery.

    The hits of queries in several languages and of a picture are printed, and drawn on contact sheets. Nothing is
    downloaded: each gallery has a packaged model, `photo` or `pictograms`.
    """
    gallery = GALLERIES[name]()
    computing = options.as_set(gallery.model)
    folder = output / f"{name}.tuwen"
    if (folder / MANIFEST).exists():
        shutil.rmtree(folder)
    with opened_or_new(folder, gallery.folder, computing) as (encoder, index):
        report = ingest_shown([gallery.folder], encoder, index, "auto")
        _credit(index, gallery)
        say(f"{count(report.rows, 'picture')} in {folder} after {report.seconds:.1f} s, model {encoder.name}")
        found = _search(gallery, index, k)
        for place, one in enumerate(found, start=1):
            draw_sheet(one.hits, index.root, _sheet(output, name, place, one), computing.settings.max_pixels)
    if as_json:
        searches = [_document(one, _sheet(output, name, place, one)) for place, one in enumerate(found, start=1)]
        emit({"index": str(folder), "model": encoder.name, "searches": searches})
        return
    for place, one in enumerate(found, start=1):
        _show(one, _sheet(output, name, place, one))
    click.echo("\nWhat to type next:")
    for line in gallery.next:
        click.echo(f"    {line.format(index=folder, picture=gallery.folder / gallery.picture)}")


def _credit(index: Index, gallery: Gallery) -> None:
    """Store who took each picture, so that searches and the page show it."""
    stored = index.payloads(list(gallery.credits))
    shown = ("title", "author", "licence", "source")
    index.update_payloads(
        {
            path: {**stored[path], **{field: credit[field] for field in shown}}
            for path, credit in gallery.credits.items()
        }
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """The hits of one query, and its language; None: it is a picture."""

    language: str | None
    query: str
    hits: list[Hit]


def _search(gallery: Gallery, index: Index, k: int) -> list[_Found]:
    by_text = [_Found(language, query, index.search(query, k)) for language, query in gallery.queries.items()]
    return [*by_text, _Found(None, gallery.picture, index.search(RowId(str(row_id(gallery.picture))), k))]


def _sheet(output: Path, name: str, place: int, found: _Found) -> Path:
    return output / f"{name}-{place:02}-{found.language or 'picture'}.png"


def _document(found: _Found, sheet: Path) -> dict[str, object]:
    hits = [as_document(hit) for hit in found.hits]
    return {"query": found.query, "language": found.language, "hits": hits, "sheet": str(sheet)}


def _show(found: _Found, sheet: Path) -> None:
    rows = [
        (rank, f"{hit.score:.3f}", Path(str(hit.payload["name"])).stem, hit.payload["path"])
        for rank, hit in enumerate(found.hits, start=1)
    ]
    click.echo(f"\n{found.query}  ({found.language or 'picture'}: {sheet})")
    table(("rank", "score", "name", "path"), rows, numbers=(0, 1))
