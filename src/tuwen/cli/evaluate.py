"""`tuwen evaluate`: how good a model is on a dataset."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tuwen.classify.learning import AUTO
from tuwen.classify.methods import METHODS
from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected, table
from tuwen.cli.options import Computing
from tuwen.data.datasets import open_dataset
from tuwen.data.samples import Columns
from tuwen.errors import BundleNotFound, require
from tuwen.evaluation.evaluate import Evaluation
from tuwen.evaluation.evaluate import evaluate as measure
from tuwen.evaluation.report import figures, percent, title, write_report
from tuwen.evaluation.tasks import TASKS
from tuwen.exporting.sources import named_here
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.loading import find_bundle

TORCH = "torch"
"""`--against` this: the checkpoint that the bundle was made from"""


@click.command(
    cls=Command,
    examples=(
        "tuwen evaluate b32 dataset_flickr30k.json --images flickr30k-images/ --split test",
        "tuwen evaluate b32 PHOTOS/ --labels names.txt --templates prompts.txt --report report.md",
        "tuwen evaluate b32 pairs.csv --captions en=english --captions zh=chinese --against b32@int8 --json",
        "tuwen evaluate openclip:ViT-B-32 captions.jsonl --runtime torch --weights open_clip_pytorch_model.bin",
        "tuwen evaluate b32 PHOTOS/ --task few-shot --shots 8",
        "tuwen evaluate b32 captions.jsonl --index photos.tuwen --vectors vectors/",
    ),
)
@click.argument("model")
@click.argument("dataset", type=options.SAMPLES)
@click.option(
    "--task", type=click.Choice(list(TASKS)), help="By default zero-shot if there are classes, else retrieval."
)
@click.option("--split", metavar="NAME", help="train, val or test; test by default where there is one.")
@click.option("--language", metavar="CODE", help="Captions in this language only; all by default.")
@click.option("--images", type=options.FOLDER, metavar="FOLDER", help="Where the images of an annotation file are.")
@click.option(
    "--captions",
    multiple=True,
    metavar="[LANG=]COLUMN",
    help="In tables: the column of captions; repeatable with a language, e.g. zh=chinese.",
)
@click.option("--image-column", metavar="NAME", help="In tables: the image, or its path.")
@click.option("--label-column", metavar="NAME", help="In tables: the class.")
@options.encoding
@click.option("--labels", type=options.FILE, metavar="FILE", help="Names of the classes, a line each.")
@click.option("--templates", type=options.FILE, metavar="FILE", help="Prompt templates, one a line, with _ or {c}.")
@click.option(
    "--train",
    type=options.EXISTING,
    metavar="PATH",
    help="few-shot, linear-probe: images to learn from; DATASET itself: its split train. By default some of DATASET.",
)
@click.option("--shots", type=click.IntRange(min=1), metavar="N", help="few-shot, linear-probe: images of each class.")
@click.option("--method", type=click.Choice([AUTO, *METHODS]), default=AUTO, help="few-shot: see tuwen adapt.")
@click.option("--seed", type=int, default=0, metavar="N", help="few-shot, linear-probe: which images are drawn.")
@click.option("--against", metavar="MODEL", help="Compare with another: NAME, NAME@PRECISION, or torch.")
@click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, for torch.")
@click.option(
    "--index", "folder", type=options.LOCATION, metavar="INDEX", help="Search this index with each caption, too."
)
@click.option("--vectors", type=options.ANY_PATH, metavar="FOLDER", help="Keep vectors here, and reuse them.")
@click.option(
    "--report", type=options.NEW_FILE, metavar="FILE", help="Write Markdown with a plot and the worst misses."
)
@options.computing_of_argument
@options.progress
@options.as_json
def evaluate(
    *,
    computing: Computing,
    dataset: Path,
    task: str | None,
    split: str | None,
    language: str | None,
    images: Path | None,
    captions: Sequence[str],
    image_column: str | None,
    label_column: str | None,
    encoding: str | None,
    labels: Path | None,
    templates: Path | None,
    train: Path | None,
    shots: int | None,
    method: str,
    seed: int,
    against: str | None,
    weights: Path | None,
    folder: Location | None,
    vectors: Path | None,
    report: Path | None,
    progress: str,
    as_json: bool,
) -> int:
    """Measure retrieval or classification on a dataset.

    MODEL is a bundle's folder or a model's name; with --runtime torch its checkpoint, or any checkpoint named as for
    tuwen export. DATASET is a folder or a file: images with captions (jsonl, csv, Parquet, WebDataset, annotation
    files of Karpathy, COCO and others), or a folder for each class. Figures are named as CLIP_benchmark names them,
    each with a 95 % bootstrap interval over images; ties count against the model. Images that are missing or cannot
    be read are listed, and the exit code is 3.
    """
    if report is not None:
        require("matplotlib", extra="plot")
    if weights is not None and TORCH not in (computing.runtime, against):
        raise click.UsageError("--weights is a checkpoint: add --runtime torch or --against torch")
    columns = replace(_columns(captions, image_column, label_column), encoding=encoding)
    own = "train" if train is not None and train.resolve() == dataset.resolve() else None
    learnt_from = None if train is None else open_dataset(train, split=own, columns=columns)
    opened = open_dataset(dataset, split=split, language=language, images=images, columns=columns)
    with ExitStack() as stack:
        encoder = _load(computing, weights, stack)
        index = None
        if folder is not None:
            place = options.index_folder(folder)
            patience = computing.settings.lock_timeout
            index = stack.enter_context(VectorIndex.open(place, encoder=encoder, lock_timeout=patience))
        with _progress(progress) as on_progress:
            evaluation = measure(
                encoder,
                opened,
                task=task,
                language=language,
                labels=labels,
                templates=templates,
                against=None if against is None else _load(_other(computing, against), weights, stack),
                index=index,
                vectors=vectors,
                train=learnt_from,
                shots=shots,
                method=method,
                seed=seed,
                on_progress=on_progress,
            )
        if report is not None:
            _report(report, evaluation)
    for note in opened.notes:
        say(note)
    list_rejected(evaluation.rejected)
    if as_json:
        emit(evaluation.document())
    else:
        _show(evaluation)
    return REJECTED if evaluation.rejected else 0


def _columns(captions: Sequence[str], image: str | None, label: str | None) -> Columns:
    """What `--captions`, `--image-column` and `--label-column` say."""
    spoken = dict(word.split("=", maxsplit=1) for word in captions if "=" in word)
    plain = [word for word in captions if "=" not in word]
    if len(plain) > 1 or (plain and spoken):
        raise click.UsageError(
            "say the language of each column of captions: --captions en=english --captions zh=chinese"
        )
    return Columns(image=image, caption=plain[0] if plain else None, captions=spoken, label=label)


def _other(computing: Computing, against: str) -> Computing:
    """How the other model is computed: `torch`, `NAME` or `NAME@PRECISION`."""
    if against == TORCH:
        return replace(computing, runtime=TORCH, precision="auto", device="auto")
    name, at, precision = against.rpartition("@")
    runtime = computing.settings.runtime if computing.runtime == TORCH else computing.runtime
    return replace(
        computing, model=name or against, precision=precision if at else computing.precision, runtime=runtime
    )


def _load(computing: Computing, weights: Path | None, stack: ExitStack) -> Encoder:
    assert computing.model is not None, "MODEL is an argument"
    if computing.runtime != TORCH:
        return computing.load(computing.model)
    return in_torch(computing.model, weights, computing, stack)


def in_torch(model: str, weights: Path | None, computing: Computing, stack: ExitStack) -> Encoder:
    """The checkpoint of a bundle with the bundle's preprocessing, or a checkpoint with its own.

    Args:
        model: a bundle, or a checkpoint named as for `tuwen export`.
        weights: the checkpoint's file, where it is not known.
        computing: device, precision and threads.
        stack: closes what the encoder needs.

    Raises:
        MissingExtra: torch is not installed.
        InvalidInput: the checkpoint is not here, or is not the one that the bundle was made from.
    """
    require("torch", extra="export")
    from tuwen.models.sources import load_source
    from tuwen.training.evaluate import torch_encoder

    settings = computing.settings
    try:
        bundle = find_bundle(model, settings.models, settings.cache)
    except BundleNotFound:
        found = named_here(model, weights, settings)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuwen-evaluate-")))
        device = "cpu" if computing.device == "auto" else computing.device
        precision = "fp32" if computing.precision == "auto" else computing.precision
        return torch_encoder(load_source(found.source, found.weights), folder, device, precision)
    return computing.load_in_torch(bundle, weights)


@contextmanager
def _progress(kind: str) -> Iterator[Any]:
    """A bar for the images, then for the texts, then for the ranks, of each model in turn."""
    shown: list[Progress] = []
    current = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal current
        if what != current or done < last[0]:
            for bar in shown:
                bar.__exit__(None, None, None)
            shown[:] = [Progress(kind)]
            shown[0].begin(total)
            current = what
        last[0] = done
        shown[0].show(done)

    last = [0]
    try:
        yield show
    finally:
        for bar in shown:
            bar.__exit__(None, None, None)


def _report(file: Path, evaluation: Evaluation) -> None:
    for written in write_report(file, evaluation):
        say(f"report: {written}")


def _show(evaluation: Evaluation) -> None:
    for measured in evaluation.measured:
        counts = measured.counts
        words = ", ".join(
            f"{number_of:,} {name}" for name, number_of in counts.items() if name not in ("of_images", "support")
        )
        head = f"{evaluation.model.name}: {title(measured)} on {measured.encoded.dataset.name}, {words}"
        missing = counts["of_images"] - counts["images"]
        click.echo(f"{head} (of {counts['of_images']:,} images)" if missing else head)
        if measured.learnt is not None:
            click.echo(f"learnt by {measured.learnt['method']} from {count(measured.learnt['support'], 'image')}")
    names, cells = figures(evaluation, own=False)
    table(names, cells, numbers=range(names.index("value"), len(names)))
    for number, other in enumerate(evaluation.comparisons):
        of = f"{evaluation.measured[number].language}: " if len(evaluation.measured) > 1 else ""
        same = percent(other.overlap)
        click.echo(f"{of}{len(other.changed):,} queries changed; {same} of the ten best are the same")
    for found in evaluation.indexed:
        rows = [(name, percent(value), percent(found.exact[name])) for name, value in found.graph.items()]
        table(("through the index", "graph", "exact"), rows, numbers=(1, 2))
        click.echo(f"the graph finds {percent(found.kept)} of the ten nearest rows")
