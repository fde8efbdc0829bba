"""`tuwen index import` and `export`: vectors from other tools, and to them."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.ending import REJECTED
from tuwen.cli.options import Computing
from tuwen.cli.output import count, emit, list_rejected
from tuwen.cli.progress import Progress
from tuwen.errors import IndexNotFound, InvalidInput
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.index.facts import Model
    from tuwen.tasks.exchange import Imported


@click.command(
    "import",
    cls=Command,
    examples=(
        "tuwen index import embedded/ --index photos.tuwen --model b32",
        "tuwen index import vectors.npy --names names.txt --index photos.tuwen --model b32 --normalise",
        "tuwen index import labels.npy --names labels.txt --texts --index labels.tuwen --model b32",
    ),
)
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@options.index
@click.option("--names", type=options.FILE, help="Of an .npy file: a name a line, in the order of its rows.")
@click.option("--texts", is_flag=True, help="Vectors of texts, which their names say; else of pictures.")
@click.option("--vector-column", metavar="NAME", help="In Parquet: the vectors.")
@click.option("--key-column", metavar="NAME", help="In tables: what names a row.")
@click.option("--root", type=options.FOLDER, help="Of a new index: the folder that paths are relative to.")
@click.option("--normalise", is_flag=True, help="Bring vectors of other lengths to length 1.")
@options.computing
@options.progress
@options.as_json
def import_(
    *,
    computing: Computing,
    vectors: Path,
    folder: Place | None,
    names: Path | None,
    texts: bool,
    vector_column: str | None,
    key_column: str | None,
    root: Path | None,
    normalise: bool,
    progress: str,
    as_json: bool,
) -> int:
    """Bring vectors that another tool has computed into an index.

    VECTORS is a folder of clip-retrieval, an .npy file with --names, or Parquet with columns of vectors, a file or
    a folder of them. --model says whose vectors they are: it must be the model that computed them.
    """
    from tuwen.cli.opening import opened_or_new
    from tuwen.tasks.exchange import Imported, check_vectors, import_vectors
    from tuwen.tasks.vector_files import VectorFiles

    target = options.index_folder(folder)
    if computing.model is None:
        raise click.UsageError("say whose vectors these are: add --model MODEL, the model that computed them")
    files, start, done = VectorFiles(vectors, names, vector_column, texts), monotonic(), Imported(0)
    _check_root(target, root)
    check_vectors(files, _model(computing, computing.model), normalise=normalise)
    base = root or (target.absolute().parent if isinstance(target, Path) else Path.cwd())
    with (
        Progress(progress) as bar,
        opened_or_new(target, base, computing, anywhere=True) as (_, index),
        closing(import_vectors(files, index, key_column=key_column)) as steps,
    ):
        bar.begin(None)
        for done in steps:
            bar.show(done.rows, done.rows)
        rows = index.info().rows
    return _show(done, target, rows, monotonic() - start, as_json=as_json)


def _check_root(target: Place, root: Path | None) -> None:
    """InvalidInput where an index has another root than the one that is asked for."""
    from tuwen.index.opening import manifest_of, root_of

    if root is None:
        return
    try:
        base = root_of(manifest_of(target), target)
    except IndexNotFound:
        return
    if not (base.exists() and base.samefile(root)):
        raise InvalidInput(f"{target} is the index of {base}, not of {root}: --root is for a new one, leave it out")


def _model(computing: Computing, model: str) -> "Model":
    """What there is to know of a model without loading it."""
    from tuwen.index.facts import KnownModel
    from tuwen.tasks.load import find_bundle

    found = find_bundle(model, computing.settings.models, computing.settings.cache).manifest
    return KnownModel(found.name, found.dim, found.fingerprint(), computing.precision)


def _show(done: "Imported", target: Place, rows: int, seconds: float, *, as_json: bool) -> int:
    list_rejected(done.rejected)
    if as_json:
        rejected = [asdict(item) for item in done.rejected]
        counts = {"index": str(target), "rows": rows, "imported": done.rows, "rejected": rejected}
        emit({**counts, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{target}: {count(rows, 'row')}; {done.rows:,} imported, {len(done.rejected):,} rejected")
    return REJECTED if done.rejected else 0


@click.command(
    cls=Command,
    examples=(
        "tuwen index export --index photos.tuwen -o exported/ --format clip-retrieval",
        """tuwen index export --index photos.tuwen -o pictures.parquet --where 'type == "image"'""",
    ),
)
@options.index
@click.option("-o", "--output", type=options.ANY_PATH, required=True, metavar="OUT", help="A new folder or file.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["clip-retrieval", "parquet", "npy"]),
    help="By the ending of OUT: .parquet, .npy, else clip-retrieval.",
)
@click.option("--where", metavar="FILTER", help="""Which rows, e.g. 'type == "image"'.""")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
@options.progress
@options.as_json
def export(
    *,
    folder: Place | None,
    output: Path,
    layout: str | None,
    where: str | None,
    dtype: str,
    progress: str,
    as_json: bool,
) -> None:
    """Write an index's vectors and payloads in a layout of another tool.

    clip-retrieval: a folder. parquet: one file with all fields. npy: one array, with the paths beside it as .txt.
    """
    from tuwen.index.index import Index
    from tuwen.tasks.exchange import export_vectors

    target = options.index_folder(folder)
    endings = {".parquet": "parquet", ".npy": "npy"}
    chosen = layout or endings.get(output.suffix, "clip-retrieval")
    start, done = monotonic(), 0
    timeout = options.read_settings().lock_timeout
    with Progress(progress) as bar, Index.open(target, encoder=None, lock_timeout=timeout) as index:
        bar.begin(index.info().rows)
        with closing(export_vectors(index, output, chosen, where=where, dtype=dtype)) as steps:
            for done in steps:
                bar.show(done, done)
    if as_json:
        seconds = round(monotonic() - start, 3)
        emit({"index": str(target), "out": str(output), "layout": chosen, "rows": done, "seconds": seconds})
    else:
        click.echo(f"{output}: {count(done, 'row')}")
