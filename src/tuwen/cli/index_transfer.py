"""`tuwen index copy`, `import` and `export`: rows to another index, from other tools and to them."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic

import click

from tuwen.cli import options
from tuwen.cli.command import INTERRUPTED, REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected
from tuwen.cli.locations import opened_or_new
from tuwen.cli.options import Computing
from tuwen.errors import IndexNotFound, InvalidInput
from tuwen.index.index import VectorIndex, check_design, design_at, make, manifest_of, root_of
from tuwen.index.location import Location
from tuwen.index.manifest import KnownModel, Model
from tuwen.ingest.copy import CopyReport
from tuwen.ingest.copy import copy as copied
from tuwen.interop.exchange import Imported, check_vectors, export_vectors, import_vectors
from tuwen.interop.vector_files import VectorFiles
from tuwen.progress import Progress
from tuwen.runtime.loading import find_bundle
from tuwen.settings import read_settings


@click.command(
    cls=Command,
    examples=(
        "tuwen index copy photos.tuwen qdrant://host:6333/photos",
        "tuwen index copy qdrant://host:6333/photos back.tuwen",
        "tuwen index copy photos.tuwen files.tuwen --kind ivf --json",
    ),
)
@click.argument("source", metavar="FROM", type=options.LOCATION)
@click.argument("target", metavar="TO", type=options.LOCATION)
@options.designed
@options.progress
@options.as_json
def copy(asked: Mapping[str, str], source: Location, target: Location, progress: str, as_json: bool) -> int:
    """Copy all rows of an index to another: folder to cluster, cluster to folder, one store to another.

    Keys, ids, payloads and vectors are copied exactly; nothing is encoded again. TO is created if it does not exist.
    Rerun the command to resume. FROM is not changed, and rows that only TO has are kept.
    """
    begun, ended = options.index_folder(source), options.index_folder(target)
    try:
        with _both(begun, ended, asked) as (old, new):
            report = _shown(old, new, progress)
            notes = new.info().notes
    except KeyboardInterrupt:
        say("stopped: run the same command again to resume")
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
        there = f", {report.unchanged:,} unchanged" if report.unchanged else ""
        click.echo(f"{begun} to {ended}: {count(report.copied, 'row')} copied{there}; {report.seconds:.1f} s")
    return 0


@contextmanager
def _both(source: Location, target: Location, asked: Mapping[str, str]) -> Iterator[tuple[VectorIndex, VectorIndex]]:
    """Both indexes, opened; the target is created if it does not exist."""
    known = manifest_of(source)
    model = KnownModel(known.model, known.dim, known.fingerprint, (known.precisions or ("fp32",))[0])
    try:
        check_design(manifest_of(target), target, asked)
    except IndexNotFound:
        chosen = design_at(target, {"metric": known.metric, **asked})
        make(target, model, root_of(known, source), chosen, bundle=known.bundle)
    settings = read_settings()
    patience, above = settings.lock_timeout, settings.quantize_above
    with (
        VectorIndex.open(source, encoder=None, lock_timeout=patience) as old,
        VectorIndex.open(target, encoder=model, lock_timeout=patience, quantize_above=above) as new,
    ):
        for precision in known.precisions:
            new.computed_in(precision)
        yield old, new


def _shown(source: VectorIndex, target: VectorIndex, progress: str) -> CopyReport:
    """Copy and show progress; return the report of the whole run."""
    with Progress(progress) as shown, closing(copied(source, target)) as reports:
        before = target.info().rows
        shown.begin(source.info().rows if shown.draws else None)
        for report in reports:
            shown.show(report.copied + report.unchanged, max(before, report.copied + report.unchanged))
    return report


@click.command(
    "import",
    cls=Command,
    examples=(
        "tuwen index import embedded/ --index photos.tuwen --model b32",
        "tuwen index import vectors.npy --names names.txt --index photos.tuwen --model b32 --normalise",
        "tuwen index import labels.npy --names labels.txt --texts --index labels.tuwen --model b32 --kind flat",
    ),
)
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@options.index
@click.option("--names", type=options.FILE, help="For .npy: one name per line, in the order of the rows.")
@click.option("--texts", is_flag=True, help="The vectors are of texts, which are their names; otherwise of images.")
@click.option("--vector-column", metavar="NAME", help="The column of vectors, for Parquet.")
@click.option("--key-column", metavar="NAME", help="The column that names a row, for tables.")
@click.option("--root", type=options.FOLDER, help="The folder that paths are relative to, for a new index.")
@click.option("--normalise", is_flag=True, help="Scale vectors of other lengths to length 1.")
@options.designed
@options.computing
@options.progress
@options.as_json
def import_(
    *,
    computing: Computing,
    asked: Mapping[str, str],
    vectors: Path,
    folder: Location | None,
    names: Path | None,
    texts: bool,
    vector_column: str | None,
    key_column: str | None,
    root: Path | None,
    normalise: bool,
    progress: str,
    as_json: bool,
) -> int:
    """Import vectors that another tool has computed.

    VECTORS is a folder of clip-retrieval, an .npy file with --names, or a Parquet file (or a folder of them) with a
    column of vectors. --model must be the model that computed them. --kind, --metric and --store apply to a new
    index.
    """
    target = options.index_folder(folder)
    if computing.model is None:
        raise click.UsageError("--model is missing: name the model that computed these vectors")
    files, start, done = VectorFiles(vectors, names, vector_column, texts), monotonic(), Imported(0)
    _check_root(target, root)
    check_vectors(files, _model(computing, computing.model), normalise=normalise)
    base = root or (target.absolute().parent if isinstance(target, Path) else Path.cwd())
    with (
        Progress(progress) as bar,
        opened_or_new(target, base, computing, asked, anywhere=True) as (_, index),
        closing(import_vectors(files, index, key_column=key_column)) as steps,
    ):
        bar.begin(None)
        for done in steps:
            bar.show(done.rows, done.rows)
        rows = index.info().rows
    return _show(done, target, rows, monotonic() - start, as_json=as_json)


def _check_root(target: Location, root: Path | None) -> None:
    """Raise `InvalidInput` if an index exists and has another root."""
    if root is None:
        return
    try:
        base = root_of(manifest_of(target), target)
    except IndexNotFound:
        return
    if not (base.exists() and base.samefile(root)):
        raise InvalidInput(
            f"{target} is the index of {base}, not of {root}: leave out --root, which is for a new index"
        )


def _model(computing: Computing, model: str) -> Model:
    """A model's facts, without loading it."""
    found = find_bundle(model, computing.settings.models, computing.settings.cache).manifest
    return KnownModel(found.name, found.dim, found.fingerprint(), computing.precision)


def _show(done: Imported, target: Location, rows: int, seconds: float, *, as_json: bool) -> int:
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
    help="By default from the extension of OUT: .parquet, .npy, otherwise clip-retrieval.",
)
@click.option("--where", metavar="FILTER", help="""Which rows, for example 'type == "image"'.""")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
@options.progress
@options.as_json
def export(
    *,
    folder: Location | None,
    output: Path,
    layout: str | None,
    where: str | None,
    dtype: str,
    progress: str,
    as_json: bool,
) -> None:
    """Write an index's vectors and payloads in the layout of another tool.

    clip-retrieval writes a folder, parquet one file with all fields, and npy one array, with the paths in a .txt file
    beside it.
    """
    target = options.index_folder(folder)
    endings = {".parquet": "parquet", ".npy": "npy"}
    chosen = layout or endings.get(output.suffix, "clip-retrieval")
    start, done = monotonic(), 0
    timeout = read_settings().lock_timeout
    with Progress(progress) as bar, VectorIndex.open(target, encoder=None, lock_timeout=timeout) as index:
        bar.begin(index.info().rows)
        with closing(export_vectors(index, output, chosen, where=where, dtype=dtype)) as steps:
            for done in steps:
                bar.show(done, done)
    if as_json:
        seconds = round(monotonic() - start, 3)
        emit({"index": str(target), "out": str(output), "layout": chosen, "rows": done, "seconds": seconds})
    else:
        click.echo(f"{output}: {count(done, 'row')}")
