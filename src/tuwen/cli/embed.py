"""`tuwen embed`: vectors of single images and texts, or of large collections, as files or in an index."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial, wraps
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import click

from tuwen.bulk.embed import Engine, Request, embed_all, kept_in
from tuwen.bulk.embedding import embed as embed_here
from tuwen.bulk.items import embed_items as vectors_of
from tuwen.bulk.items import is_picture, save_items
from tuwen.bulk.ray import Recipe, on_cluster
from tuwen.bundle.manifest import Tower
from tuwen.cli import options
from tuwen.cli.command import INTERRUPTED, REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected
from tuwen.cli.options import Computing
from tuwen.data.datasets import ENDINGS, expanded, is_bulk, root_of
from tuwen.data.samples import Columns
from tuwen.errors import IndexNotFound, InvalidInput
from tuwen.index.index import VectorIndex, make, manifest_of
from tuwen.index.location import Place
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.loading import find_bundle, portable_name
from tuwen.types import Rejected


@dataclass(frozen=True, slots=True)
class Items:
    """What to embed.

    Attributes:
        sources: images where files of these names exist, otherwise texts; or what holds samples.
        texts: texts in any case.
        output: a file for the vectors of single items, or a folder or an index for samples; None to print them.
        weights: the checkpoint, or the file of its weights, for PyTorch.
        static: run one item at a time, texts at full length.
    """

    sources: Sequence[str]
    texts: Sequence[str]
    output: Place | None
    weights: Path | None
    static: bool

    def place_of_bulk(self, computing: Computing) -> Place:
        """Where the vectors of samples go.

        Raises:
            click.UsageError: there is no output, or an option is given that is for single items.
        """
        asked = {
            "--text": self.texts,
            "--static": self.static,
            "--weights": self.weights,
            "--runtime torch": computing.runtime == "torch",
        }
        for option, given in asked.items():
            if given:
                raise click.UsageError(f"{option} is for single items, and {self.sources[0]} holds samples")
        if self.output is None:
            raise click.UsageError("the output is missing: add -o OUT")
        return self.output


def embed_items(items: Items, computing: Computing, *, as_json: bool) -> int:
    """Embed them, print or save the vectors; the exit code."""
    if not items.sources and not items.texts:
        raise click.UsageError("nothing to embed: name images, texts, or files and folders of samples")
    file = _file(items.output)
    for source in items.sources:
        is_picture(source)  # raises for a path that does not exist, before a model is loaded
    encoder = _encoder(items, computing)
    vectors = vectors_of(items.sources, encoder, texts=items.texts)
    if file is not None:
        save_items(vectors, file)
        say(f"{count(len(vectors), 'vector')}: {file}")
    rows = [asdict(item) | {"vector": item.vector.tolist()} for item in vectors]
    if as_json:
        emit({"model": encoder.name, "fingerprint": encoder.fingerprint, "dim": encoder.dim, "vectors": rows})
    elif file is None:
        for row in rows:
            click.echo(json.dumps(row["vector"]))
    return 0


def _file(output: Place | None) -> Path | None:
    """The array's file; InvalidInput for anything else."""
    if output is None or (isinstance(output, Path) and output.suffix == ".npy"):
        return output
    raise InvalidInput(f"{output}: vectors of single items are saved as one file, whose name must end in .npy")


def _encoder(items: Items, computing: Computing) -> Encoder:
    model = computing.model_or_default
    if computing.runtime == "torch":
        settings = computing.settings
        bundle = find_bundle(model, settings.models, settings.cache)
        return computing.load_in_torch(bundle, items.weights, static=items.static)
    if items.weights is not None:
        raise click.UsageError("--weights is for PyTorch: add --runtime torch")
    return computing.load(model, static=items.static)


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """Where a bulk job is computed: on this machine, or on a cluster."""

    engine: str
    address: str | None
    workers: int | None

    def check(self) -> None:
        """Check that the options fit together.

        Raises:
            InvalidInput: an address or a number of workers without a cluster.
        """
        if self.engine == "local" and (self.address is not None or self.workers is not None):
            raise InvalidInput("--address and --workers are for a cluster: add --engine ray")

    @contextmanager
    def opened(self, loaded: "Loaded") -> Iterator[Engine]:
        """The engine, as long as the block lasts."""
        if self.engine == "local":
            yield _here(loaded)
            return

        settings = loaded.computing.settings
        recipe = Recipe(
            model=portable_name(loaded.model),
            fingerprint=loaded.encoder.fingerprint,
            choice=loaded.computing.choice,
            models=settings.models,
            cache=settings.cache,
            max_pixels=settings.max_pixels,
            exact_decode=loaded.computing.exact_decode,
        )
        with on_cluster(self.address or "auto", recipe, self.workers) as engine:
            yield engine


def _here(loaded: "Loaded") -> Engine:
    return partial(embed_here, encoder=loaded.encoder)


def where(command: F) -> F:
    """Add `--engine --address --workers`; `command` gets one `Where`."""

    @wraps(command)
    def with_where(**options: Any) -> object:  # noqa: ANN401
        chosen = Where(*(options.pop(name) for name in ("engine", "address", "workers")))
        chosen.check()
        return command(where=chosen, **options)

    for option in reversed(_OPTIONS):
        with_where = option(with_where)
    return with_where  # type: ignore[return-value]


_OPTIONS = (
    click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
    click.option("--address", metavar="auto|local|ray://…", help="The address of the Ray cluster; auto by default."),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Worker processes; by default as many as the cluster has cores for.",
    ),
)


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
@click.option(
    "-o", "--output", type=options.PLACE, metavar="OUT", help="A folder or an index; FILE.npy for single items."
)
@click.option("--format", "layout", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
@click.option(
    "--only",
    type=click.Choice(["images", "texts"]),
    help="Embed only the images or only the texts of samples that have both.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    help="Number format in files; float16 by default for clip-retrieval.",
)
@click.option("--shard-size", type=click.IntRange(min=1), default=10_000, show_default=True, help="Samples per shard.")
@click.option("--key-column", metavar="NAME", help="The column that joins an image and its captions, in tables.")
@click.option("--image-column", metavar="NAME", help="The column of images or of their paths, in tables.")
@click.option("--caption-column", metavar="NAME", help="The column of captions or of lists of them, in tables.")
@options.encoding
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="A text to embed, even if a file of that name exists; repeatable.",
)
@click.option("--static", is_flag=True, help="Embed single items one at a time, texts at full length.")
@click.option(
    "--weights",
    type=options.EXISTING,
    metavar="PATH",
    help="The checkpoint or the file of its weights, for --runtime torch.",
)
@where
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
    encoding: str | None,
    texts: Sequence[str],
    static: bool,
    weights: Path | None,
    progress: str,
    as_json: bool,
) -> int:
    """Compute vectors of images and texts.

    A SOURCE that is a folder, or ends in .tar, .parquet, .csv, .tsv, .jsonl or .txt, holds samples: images, captions,
    or both, joined by key; their vectors go to OUT. Braces name several: {00000..00999}.tar. Rerun an interrupted
    command to resume it; the output is byte-identical. Any other SOURCE is a single item: an image if a file of that
    name exists, otherwise a text; the vectors are printed, one per line, or saved as FILE.npy. Single items can also be
    computed by PyTorch.
    """
    wanted = Items(sources, texts, output, weights, static=static)
    if not _are_bulk(sources):
        return embed_items(wanted, computing, as_json=as_json)
    out = wanted.place_of_bulk(computing)
    index = _index_of(out, layout)

    loaded = _loaded(computing.measuring(), "text" if only == "texts" else "vision")
    kind = dtype or ("float16" if layout == "clip-retrieval" else "float32")
    columns = Columns(key_column, image_column, caption_column, encoding=encoding)
    paths = [path for source in sources for path in expanded(Path(source))]
    folder = _folder_of(out, index, paths, loaded)
    request = Request(paths, folder, layout, only, kind, shard_size, columns, loaded.facts)
    return _run(request, index, loaded, where, Shown(progress, as_json))


@dataclass(frozen=True, slots=True)
class Shown:
    """How to show progress and the result."""

    progress: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model, how it computes (without any `auto`), and the facts that the vectors depend on."""

    model: str
    encoder: Encoder
    computing: Computing
    facts: dict[str, Any]


def _loaded(computing: Computing, tower: Tower) -> Loaded:
    """The model, computing both towers as is fastest for one: a job, resumed or on other machines, must not change."""
    model, settings = computing.model_or_default, computing.settings
    plan = computing.plans(find_bundle(model, settings.models, settings.cache))[tower, "many"]
    facts = {
        "runtime": plan.runtime,
        "device": plan.device,
        "exact_decode": computing.exact_decode,
        "max_pixels": settings.max_pixels,
    }
    fixed = replace(computing, runtime=plan.runtime, device=plan.device, precision=plan.precision, threads=plan.threads)
    return Loaded(model, fixed.load(model), fixed, facts)


def _are_bulk(sources: Sequence[str]) -> bool:
    """Whether the sources hold samples; a mixture with single items is an error."""
    bulk = [source for source in sources if is_bulk(Path(source))]
    for source in bulk:
        if not all(path.exists() for path in expanded(Path(source))):
            raise InvalidInput(
                f"{source} does not exist; a file that ends in {' '.join(sorted(ENDINGS))} holds samples"
            )
    if bulk and len(bulk) < len(sources):
        other = next(source for source in sources if source not in bulk)
        raise InvalidInput(f"{bulk[0]} holds samples, and {other!r} is a single item: embed them in two commands")
    return bool(bulk)


def _run(request: Request, index: Place | None, loaded: Loaded, where: Where, shown: Shown) -> int:
    """Run the job, show its progress and result, and return the exit code. `index`: where rows go, if anywhere."""
    start = monotonic()
    written = total = 0
    report = None
    try:
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
        say(f"stopped: {done} in {index or request.out}; run the same command again to resume")
        return INTERRUPTED
    assert report is not None, "a job ends with its report"
    if index is not None and index != request.out:
        say(f"report: {request.out / 'report.json'}")
    return _show(report, index or request.out, monotonic() - start, as_json=shown.as_json)


def _index_of(out: Place, layout: str) -> Place | None:
    """The index that rows go to; None for file formats."""
    if layout == "index":
        return options.index_folder(out)
    if not isinstance(out, Path):
        raise click.UsageError(f"{out} is an index: add --format index")
    return None


def _folder_of(out: Place, index: Place | None, sources: Sequence[Path], loaded: Loaded) -> Path:
    """Where the state of the job is kept. An index that does not exist is created."""
    if index is None:
        assert isinstance(out, Path), "files are in a folder: it was checked"
        return out

    try:
        manifest = manifest_of(index)
    except IndexNotFound:
        make(index, loaded.encoder, root_of(sources), bundle=portable_name(loaded.model))
        manifest = manifest_of(index)
    return kept_in(index, manifest, loaded.computing.settings.cache)


@contextmanager
def _opened(place: Place | None, loaded: Loaded) -> Iterator[VectorIndex | None]:
    """The index that rows go to; None for file formats."""
    if place is None:
        yield None
        return

    settings = loaded.computing.settings
    with VectorIndex.open(
        place,
        encoder=loaded.encoder,
        lock_timeout=settings.lock_timeout,
        quantize_above=settings.quantize_above,
    ) as index:
        yield index


def _show(report: Any, out: Place, seconds: float, *, as_json: bool) -> int:  # noqa: ANN401

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
