"""`tuwen models`: known models with their published figures, and the models on this machine."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import read_manifest
from tuwen.bundle.catalogue import Known, catalogue, is_non_commercial
from tuwen.cli import options
from tuwen.cli.command import Command, say
from tuwen.cli.console import emit, table
from tuwen.demo import PHOTO, PICTOGRAMS, demo_bundle, photo_bundle
from tuwen.errors import BundleError
from tuwen.settings import read_settings

NARROW = ("xm3600-en", "xm3600-zh")
WIDE = (*NARROW, "flickr-en", "flickr-cn")


@click.command(
    cls=Command,
    examples=("tuwen models", "tuwen models --language zh", "tuwen models --local --json"),
)
@click.option("--language", metavar="CODE", help="Only models that know this language, for example zh.")
@click.option("--local", is_flag=True, help="Only models on this machine.")
@options.as_json
def models(*, language: str | None, local: bool, as_json: bool) -> None:
    """List the packaged models, known ones, and those on this machine.

    Languages, size, licence and published quality; an empty cell is unknown. A wide terminal shows more columns.
    Quality is recall in percent, and each column is measured on one set of images: compare only within a column.
    --json says what each figure measures and where it was published.
    """
    here = dict(local_bundles(read_settings().models))
    packaged = ((PHOTO, photo_bundle()), (PICTOGRAMS, demo_bundle()))
    rows = [row for name, folder in packaged if (row := _uncatalogued(name, folder))]
    rows += [_document(known, here.pop(known.name, None)) for known in catalogue().models]
    rows += [row for name, folder in sorted(here.items()) if (row := _uncatalogued(name, folder))]
    rows = [row for row in rows if _is_wanted(row, language, local=local)]
    if as_json:
        emit({"models": rows, "figures": _figures()})
        return
    _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    if sys.stdout.isatty() and shutil.get_terminal_size().columns >= 120:
        head = (" model", "lang", "dim", "M", *WIDE, "licence")
        table(head, ((*_row(row, WIDE), row["licence"] or "") for row in rows), numbers=range(2, 4 + len(WIDE)))
    else:
        table((" model", "lang", "dim", "M", "en", "zh"), (_row(row, NARROW) for row in rows), numbers=range(2, 6))
    click.echo("\n* on this machine  + needs no torch  lang: which, or how many  M: million parameters")
    click.echo("! the licence forbids commercial use  x needs code from its repository, which is never run")
    click.echo("en, zh (xm3600): recall of images by English and Chinese text, in percent")


def local_bundles(models: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each model below the folder of models: a name is of one part, or of two."""
    for pattern in (f"*/{layout.MANIFEST}", f"*/*/{layout.MANIFEST}"):
        for manifest in sorted(models.glob(pattern)):
            if not any(part.startswith(".") for part in manifest.relative_to(models).parts):
                yield manifest.parent.relative_to(models).as_posix(), manifest.parent


def _figures() -> list[dict[str, str]]:
    """What each figure measures, and where it was published."""
    return [{"figure": name, **figure.model_dump()} for name, figure in catalogue().figures.items()]


def _document(known: Known, folder: Path | None) -> dict[str, Any]:
    return {
        "model": known.name,
        "source": known.source,
        "hub": known.hub,
        "onnx": known.onnx,
        "languages": list(known.languages),
        "dim": known.dim,
        "params": known.params,
        "image": known.image,
        "licence": known.licence or None,
        "non_commercial": is_non_commercial(known.licence),
        "own_code": known.own_code,
        "quality": [{"figure": name, "percent": value} for name, value in known.quality.items()],
        "here": None if folder is None else str(folder),
    }


def _uncatalogued(name: str, folder: Path) -> dict[str, Any] | None:
    """A bundle on this machine that is not in the catalogue, from its manifest; None, with a note, if it is broken."""
    try:
        manifest = read_manifest(folder)
    except BundleError as error:
        say(f"not listed: {error}")
        return None
    return {
        "model": name,
        "source": manifest.source,
        "hub": None,
        "onnx": None,
        "languages": list(manifest.text.languages),
        "dim": manifest.dim,
        "params": None,
        "image": manifest.image.size[0],
        "licence": manifest.licence or None,
        "non_commercial": is_non_commercial(manifest.licence),
        "own_code": False,
        "quality": [],
        "here": str(folder),
    }


def _is_wanted(row: dict[str, Any], language: str | None, *, local: bool) -> bool:
    knows = language is None or bool({language, "many"} & set(row["languages"]))
    return knows and (not local or row["here"] is not None)


def _row(row: dict[str, Any], columns: Iterable[str]) -> tuple[str, ...]:
    mark = "*" if row["here"] else "+" if row["onnx"] else "x" if row["own_code"] else " "
    quality = {item["figure"]: item["percent"] for item in row["quality"]}
    figures = {"flickr-en": quality.get("flickr-en-altclip"), **quality}
    return (
        f"{mark}{row['model']}{' !' if row['non_commercial'] else ''}",
        _languages(row["languages"]),
        str(row["dim"]),
        _or_empty(row["params"]),
        *(_or_empty(figures.get(column)) for column in columns),
    )


def _languages(codes: list[str]) -> str:
    return codes[0] if len(codes) == 1 else str(len(codes) or "")


def _or_empty(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
