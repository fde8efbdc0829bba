"""`tuwen embed`: vectors of single images and texts, or of large collections, as files or in an index."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import click

from tuwen.bulk.embed import FORMATS, SHARD_SIZE, EmbedJob, Options
from tuwen.bulk.items import embed_items as vectors_of
from tuwen.bulk.items import is_picture, save_items
from tuwen.bulk.job import REPORT, EmbedReport
from tuwen.cli import options
from tuwen.cli.command import INTERRUPTED, REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected, printable
from tuwen.cli.options import Computing
from tuwen.data.datasets import ENDINGS, expanded, is_bulk
from tuwen.data.samples import Columns
from tuwen.errors import InvalidInput
from tuwen.index.location import Location
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.loading import find_bundle

_NAMED = 3
"""how many of the files that belong to no sample are named"""


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
    output: Location | None
    weights: Path | None
    static: bool

    def check_bulk(self, computing: Computing) -> None:
        """Check that no option is given that is for single items.

        Raises:
            click.UsageError: one is, or there is no output.
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


def _file(output: Location | None) -> Path | None:
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
    "-o", "--output", type=options.LOCATION, metavar="OUT", help="A folder or an index; FILE.npy for single items."
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
@click.option(
    "--shard-size", type=click.IntRange(min=1), default=SHARD_SIZE, show_default=True, help="Samples per shard."
)
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
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", metavar="auto|local|ray://…", help="The address of the Ray cluster; auto by default.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes; by default as many as the cluster has cores for.",
)
@options.computing_in_torch_too
@options.progress
@options.as_json
def embed(
    *,
    computing: Computing,
    sources: Sequence[str],
    output: Location | None,
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
    engine: str,
    address: str | None,
    workers: int | None,
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
    if engine == "local" and (address is not None or workers is not None):
        raise click.UsageError("--address and --workers are for a cluster: add --engine ray")
    items = Items(sources, texts, output, weights, static=static)
    if not _are_bulk(sources):
        return embed_items(items, computing, as_json=as_json)

    items.check_bulk(computing)
    chosen = Options(
        layout,
        only,
        dtype,
        shard_size,
        Columns(key_column, image_column, caption_column, encoding=encoding),
        computing.exact_decode,
        None if engine == "local" else address or "auto",
        workers,
    )
    out = options.index_folder(output)
    with computing.measuring().telling():
        job = EmbedJob.of(sources, out, computing.model, computing.choice, chosen, computing.settings)
    return _run(job, progress, as_json=as_json)


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


def _run(job: EmbedJob, progress: str, *, as_json: bool) -> int:
    """Run the job, show its progress and result, and return the exit code."""
    start, written, total, report = monotonic(), 0, 0, None
    try:
        with closing(job.run(progress)) as steps:
            for step in steps:
                written, total, report = step.written, step.total, step.report
    except KeyboardInterrupt:
        done = f"{written:,} of {count(total, 'sample')}"
        say(f"stopped: {done} in {job.out}; run the same command again to resume")
        return INTERRUPTED
    assert report is not None, "a job ends with its report"
    if job.out != job.request.out:
        say(f"report: {job.request.out / REPORT}")
    return _show(report, job.out, monotonic() - start, as_json=as_json)


def _show(report: EmbedReport, out: Location, seconds: float, *, as_json: bool) -> int:
    list_rejected(report.rejected)
    if report.unused:
        more = f" and {len(report.unused) - _NAMED:,} more" if len(report.unused) > _NAMED else ""
        say(f"skipped, because they belong to no sample: {', '.join(map(printable, report.unused[:_NAMED]))}{more}")
    if as_json:
        emit({"out": str(out), **asdict(report), "seconds": round(seconds, 3)})
    else:
        parts = [
            count(report.images, "picture"),
            count(report.texts, "caption"),
            f"{report.skipped:,} skipped",
            f"{len(report.rejected):,} rejected",
        ]
        rate = f" ({report.samples / seconds:.1f} samples/s)" if seconds > 1 else ""
        click.echo(f"{out}: {', '.join(parts)}; {seconds:.1f} s{rate}")
    return REJECTED if report.rejected else 0
