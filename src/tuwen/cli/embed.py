"""`tuwen embed`: vectors of a few pictures and texts, or of millions, into files or an index."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from tuwen.cli import options
from tuwen.cli.cluster import Where
from tuwen.cli.cluster import where as where_options
from tuwen.cli.command import Command
from tuwen.cli.embed_items import Items, embed_items
from tuwen.cli.ending import INTERRUPTED, REJECTED, say
from tuwen.cli.options import Computing
from tuwen.cli.output import count, emit, list_rejected
from tuwen.cli.progress import Progress
from tuwen.errors import IndexNotFound, InvalidInput
from tuwen.index.place import Place

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder
    from tuwen.runtime.plan import Choice
    from tuwen.tasks.embed import Request

FORMATS = ("clip-retrieval", "parquet", "arrow", "npy", "index")


@click.command(
    cls=Command,
    examples=(
        'tuwen embed cat.jpg "a cat" --model demo --json',
        'tuwen embed cat.jpg "a cat" --model b32 --runtime torch --weights model.safetensors -o pair.npy',
        "tuwen embed PHOTOS/ -o embedded/",
        "tuwen embed shards/ -o vectors/ --format parquet --shard-size 50000",
        "tuwen embed pairs.jsonl -o pairs.tuwen --format index --caption-column en",
        "tuwen embed shards/ -o qdrant://host:6333/photos --format index",
        "tuwen embed shards/ -o embedded/ --engine ray --address auto",
    ),
)
@click.argument("sources", nargs=-1, metavar="SOURCE…")
@click.option("-o", "--output", type=options.PLACE, metavar="OUT", help="Folder or index; FILE.npy for a few.")
@click.option("--format", "layout", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
@click.option("--only", type=click.Choice(["images", "texts"]), help="Embed one of the two, where both are there.")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="In files; float16 for clip-retrieval.")
@click.option(
    "--shard-size", type=click.IntRange(min=1), default=10_000, show_default=True, help="Samples a shard."
)
@click.option("--key-column", metavar="NAME", help="In tables: what joins a picture and its captions.")
@click.option("--image-column", metavar="NAME", help="In tables: the picture, or its path.")
@click.option("--caption-column", metavar="NAME", help="In tables: the caption, or a list of them.")
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="A text, even if a file of that name exists.")
@click.option("--static", is_flag=True, help="Single items: one at a time, texts at full length.")
@click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, for --runtime torch.")
@where_options
@options.computing_in_torch_too
@options.progress
@options.as_json
def embed(
    *,
    computing: Computing,
    where: Where,
    sources: Sequence[str],
    output: Place | None,
    layout: str,
    only: str | None,
    dtype: str | None,
    shard_size: int,
    key_column: str | None,
    image_column: str | None,
    caption_column: str | None,
    texts: Sequence[str],
    static: bool,
    weights: Path | None,
    progress: str,
    as_json: bool,
) -> int:
    """Compute vectors, of a few pictures and texts or of whole collections.

    A SOURCE that is a folder, or ends in .tar, .parquet, .csv, .tsv, .jsonl or .txt, holds samples: pictures,
    captions, or both, joined by key; their vectors go to OUT. Stopped or killed, the same command goes on where it
    was and ends with the same bytes. Any other SOURCE is one item: a picture if a file of that name exists, else a
    text; the vectors are printed, one a line, or saved as FILE.npy. PyTorch computes single items, too.
    """
    wanted = Items(sources, texts, output, weights, static=static)
    if not _are_bulk(sources):
        return embed_items(wanted, computing, as_json=as_json)
    out = wanted.place_of_bulk(computing)
    index = _index_of(out, layout)
    from tuwen.prepare.tables import Columns
    from tuwen.tasks.embed import Request

    loaded = _loaded(computing)
    kind = dtype or ("float16" if layout == "clip-retrieval" else "float32")
    columns, paths = Columns(key_column, image_column, caption_column), [Path(source) for source in sources]
    folder = _folder_of(out, index, paths, loaded)
    request = Request(paths, folder, layout, only, kind, shard_size, columns, loaded.facts)
    return _run(request, index, loaded, where, Shown(progress, as_json))


@dataclass(frozen=True, slots=True)
class Shown:
    """How far it is and what came of it, in what form."""

    progress: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model, how it computes (`choice`: nothing in it is `auto`), and what of that the vectors depend on."""

    model: str
    encoder: "Encoder"
    computing: Computing
    choice: "Choice"
    facts: dict[str, Any]


def _loaded(computing: Computing) -> Loaded:
    from tuwen.runtime.plan import Choice, make_plan
    from tuwen.tasks.load import find_bundle

    model, settings = computing.model or computing.settings.default_model, computing.settings
    choice = Choice(computing.runtime, computing.device, computing.precision, computing.threads)
    plan = make_plan(find_bundle(model, settings.models, settings.cache), choice)
    facts = {
        "runtime": plan.runtime,
        "device": plan.device,
        "exact_decode": computing.exact_decode,
        "max_pixels": settings.max_pixels,
    }
    exactly = Choice(plan.runtime, plan.device, plan.precision, plan.threads)
    return Loaded(model, computing.load(model), computing, exactly, facts)


def _are_bulk(sources: Sequence[str]) -> bool:
    """Whether the sources hold samples; a mixture of such and single items is refused."""
    from tuwen.prepare.inputs import ENDINGS, is_bulk

    bulk = [source for source in sources if is_bulk(Path(source))]
    for source in bulk:
        if not Path(source).exists():
            raise InvalidInput(
                f"{source} does not exist; a file that ends in {' '.join(sorted(ENDINGS))} holds samples"
            )
    if bulk and len(bulk) < len(sources):
        other = next(source for source in sources if source not in bulk)
        raise InvalidInput(f"{bulk[0]} holds samples, {other!r} is a single item: embed one after the other")
    return bool(bulk)


def _run(request: "Request", index: Place | None, loaded: Loaded, where: Where, shown: Shown) -> int:
    """Do the job, show how far it is and what came of it; the exit code. `index`: what rows go to, if any."""
    start = monotonic()
    written = total = 0
    report = None
    try:
        from tuwen.tasks.embed import embed_all

        with (
            Progress(shown.progress) as bar,
            _opened(index, loaded) as rows,
            where.opened(loaded) as engine,
            closing(embed_all(request, loaded.encoder, engine, rows)) as steps,
        ):
            for step in steps:
                if not total:
                    bar.begin(step.total)
                written, total, report = step.written, step.total, step.report
                bar.show(step.seen, step.written)
    except KeyboardInterrupt:
        done = f"{written:,} of {count(total, 'sample')}"
        say(f"stopped: {done} in {index or request.out}; run the same command again to go on")
        return INTERRUPTED
    assert report is not None, "a job ends with its report"
    if index is not None and index != request.out:
        say(f"report: {request.out / 'report.json'}")
    return _show(report, index or request.out, monotonic() - start, as_json=shown.as_json)


def _index_of(out: Place, layout: str) -> Place | None:
    """The index that rows go to; None for the formats that are files."""
    if layout == "index":
        return options.index_folder(out)
    if not isinstance(out, Path):
        raise click.UsageError(f"{out} holds an index, not files: add --format index")
    return None


def _folder_of(out: Place, index: Place | None, sources: Sequence[Path], loaded: Loaded) -> Path:
    """Where the job is kept track of. An index that is not there yet is made."""
    if index is None:
        assert isinstance(out, Path), "files are in a folder: it was checked"
        return out
    from tuwen.cli.opening import place_of
    from tuwen.index.opening import make, manifest_of
    from tuwen.prepare.inputs import root_of
    from tuwen.tasks.embed import kept_in

    try:
        manifest = manifest_of(index)
    except IndexNotFound:
        make(index, loaded.encoder, root_of(sources), bundle=place_of(loaded.model))
        manifest = manifest_of(index)
    return kept_in(index, manifest, loaded.computing.settings.cache)


@contextmanager
def _opened(place: Place | None, loaded: Loaded) -> "Iterator[Index | None]":
    """The index that rows go to; None for the formats that are files."""
    if place is None:
        yield None
        return
    from tuwen.index.index import Index

    settings = loaded.computing.settings
    with Index.open(
        place,
        encoder=loaded.encoder,
        lock_timeout=settings.lock_timeout,
        quantize_above=settings.quantize_above,
    ) as index:
        yield index


def _show(report: Any, out: Place, seconds: float, *, as_json: bool) -> int:  # noqa: ANN401
    from tuwen.types import Rejected

    rejected = [Rejected(**item) for item in report["rejected"]]
    list_rejected(rejected)
    if as_json:
        emit({"out": str(out), **report, "seconds": round(seconds, 3)})
    else:
        parts = [
            count(report["images"], "picture"),
            count(report["texts"], "caption"),
            f"{report['skipped']:,} skipped",
            f"{len(rejected):,} rejected",
        ]
        rate = f" ({report['samples'] / seconds:.1f} samples/s)" if seconds > 1 else ""
        click.echo(f"{out}: {', '.join(parts)}; {seconds:.1f} s{rate}")
    return REJECTED if rejected else 0
