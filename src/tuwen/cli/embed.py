"""`tuwen embed`: vectors of a few pictures and texts, or of millions, into files or an index."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
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
from tuwen.cli import options
from tuwen.cli.command import INTERRUPTED, REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected
from tuwen.cli.options import Computing
from tuwen.data.datasets import ENDINGS, is_bulk, root_of
from tuwen.data.samples import Columns
from tuwen.errors import IndexNotFound, InvalidInput, require
from tuwen.index.index import VectorIndex, make, manifest_of
from tuwen.index.location import Place
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.loading import find_bundle, portable_name
from tuwen.runtime.selection import Choice, make_plan
from tuwen.types import Rejected

# ---- Single pictures and texts of `tuwen embed`


@dataclass(frozen=True, slots=True)
class Items:
    """What is to be embedded, and how.

    Attributes:
        sources: pictures where files of these names exist, else texts.
        texts: texts in any case.
        output: a file for the vectors, None for none; of samples in bulk, a folder or an index.
        weights: the checkpoint, or the file of its weights, for PyTorch.
        static: in shapes that do not change.
    """

    sources: Sequence[str]
    texts: Sequence[str]
    output: Place | None
    weights: Path | None
    static: bool

    def place_of_bulk(self, computing: Computing) -> Place:
        """Where the vectors of samples in bulk go.

        Raises:
            click.UsageError: it is not said, or something is asked for that is for single items.
        """
        asked = {
            "--text": self.texts,
            "--static": self.static,
            "--weights": self.weights,
            "--runtime torch": computing.runtime == "torch",
        }
        for option, given in asked.items():
            if given:
                raise click.UsageError(f"{option} is for single items: {self.sources[0]} holds samples")
        if self.output is None:
            raise click.UsageError("say where the vectors go: add -o OUT")
        return self.output


def embed_items(items: Items, computing: Computing, *, as_json: bool) -> int:
    """Embed them, print or save the vectors; the exit code."""
    if not items.sources and not items.texts:
        raise click.UsageError("name what to embed: pictures, texts, or what holds samples")
    file = _file(items.output)
    for source in items.sources:
        is_picture(source)  # a slip of the pen is told before a model is loaded
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
    raise InvalidInput(f"{output}: vectors of single items are saved as one file: name it something.npy")


def _encoder(items: Items, computing: Computing) -> Encoder:
    model = computing.model or computing.settings.default_model
    if computing.runtime == "torch":
        return _in_torch(model, items, computing)
    if items.weights is not None:
        raise click.UsageError("--weights is the checkpoint: add --runtime torch")
    return computing.load(model, static=items.static)


def _in_torch(model: str, items: Items, computing: "Computing") -> "Encoder":
    """The bundle's own preprocessing, and its checkpoint's towers; see `torch_encoder`."""
    require("torch", extra="export")
    from tuwen.exporting.torch_runtime import torch_encoder

    settings = computing.settings
    return torch_encoder(
        find_bundle(model, settings.models, settings.cache),
        items.weights,
        device=computing.device,
        precision=computing.precision,
        threads=computing.threads,
        static=items.static,
        max_pixels=settings.max_pixels,
        exact_decode=computing.exact_decode,
        settings=settings,
    )


# ---- Where a bulk job is computed: the options `--engine --address --workers`.

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """Here, or on a cluster."""

    engine: str
    address: str | None
    workers: int | None

    def check(self) -> None:
        """See that the options go together.

        Raises:
            InvalidInput: an address or workers, and no cluster.
        """
        if self.engine == "local" and (self.address is not None or self.workers is not None):
            raise InvalidInput("--address and --workers are about a cluster: add --engine ray")

    @contextmanager
    def opened(self, loaded: "Loaded") -> Iterator[Engine]:
        """What computes, as long as the block lasts."""
        if self.engine == "local":
            yield _here(loaded)
            return

        settings = loaded.computing.settings
        recipe = Recipe(
            model=portable_name(loaded.model),
            fingerprint=loaded.encoder.fingerprint,
            choice=loaded.choice,
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
    click.option("--address", metavar="auto|local|ray://…", help="Which Ray cluster; auto by default."),
    click.option("--workers", type=click.IntRange(min=1), help="Of the cluster; as many as it has cores for."),
)


# ---- `tuwen embed`: vectors of a few pictures and texts, or of millions, into files or an index.

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
@click.option("--shard-size", type=click.IntRange(min=1), default=10_000, show_default=True, help="Samples a shard.")
@click.option("--key-column", metavar="NAME", help="In tables: what joins a picture and its captions.")
@click.option("--image-column", metavar="NAME", help="In tables: the picture, or its path.")
@click.option("--caption-column", metavar="NAME", help="In tables: the caption, or a list of them.")
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="A text, even if a file of that name exists.")
@click.option("--static", is_flag=True, help="Single items: one at a time, texts at full length.")
@click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, for --runtime torch.")
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
    texts: Sequence[str],
    static: bool,
    weights: Path | None,
    progress: str,
    as_json: bool,
) -> int:
    """Compute vectors of images and texts.

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
    encoder: Encoder
    computing: Computing
    choice: Choice
    facts: dict[str, Any]


def _loaded(computing: Computing) -> Loaded:

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


def _run(request: Request, index: Place | None, loaded: Loaded, where: Where, shown: Shown) -> int:
    """Do the job, show how far it is and what came of it; the exit code. `index`: what rows go to, if any."""
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

    try:
        manifest = manifest_of(index)
    except IndexNotFound:
        make(index, loaded.encoder, root_of(sources), bundle=portable_name(loaded.model))
        manifest = manifest_of(index)
    return kept_in(index, manifest, loaded.computing.settings.cache)


@contextmanager
def _opened(place: Place | None, loaded: Loaded) -> Iterator[VectorIndex | None]:
    """The index that rows go to; None for the formats that are files."""
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
