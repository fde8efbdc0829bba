"""`tuwen classify`: classify images by labels of your choice."""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TypeAlias

import click

from tuwen.api import Encoder
from tuwen.bundle.files import replace_text
from tuwen.classify.classifier import Classifier, Label, Prediction, Predictions
from tuwen.classify.labels import PLAIN, fill, read_labels, split_labels
from tuwen.classify.sidecars import add_keywords, sidecar_of
from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected, table
from tuwen.cli.options import Computing
from tuwen.data.files import Skipped, find_files, path_of
from tuwen.data.sidecars import Sidecars
from tuwen.errors import InvalidInput
from tuwen.progress import Progress
from tuwen.runtime.languages import text_notes
from tuwen.types import Rejected

NONE = "(none of these)"
LIKELY = 0.5
"""the probability from which a label that is judged by itself is written into a sidecar"""

Outcome: TypeAlias = tuple[str, list[Prediction], list[Rejected]]
"""the model's name, the predictions, the images that could not be read"""


@click.command(
    cls=Command,
    examples=(
        'tuwen classify cat.jpg --labels "cat,dog,rat,man,woman" --template "a photo of a _"',
        'tuwen classify PHOTOS/ --label-file labels.txt --template "一张_的照片" -o res.json',
        "tuwen classify PHOTOS/ --adapter adapter/",
        "tuwen classify PHOTOS/ --label-file labels.txt --none-below 0.5 --write-xmp",
        "tuwen classify PHOTOS/ --adapter adapter --url http://127.0.0.1:8000",
        'tuwen classify cat.jpg --labels "cat,dog" --url http://127.0.0.1:8000',
    ),
)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--labels", metavar="A,B,…", help="Comma-separated labels (, ， 、 ،).")
@click.option("--label-file", type=options.FILE, help="A file with one label per line.")
@options.encoding
@click.option(
    "--adapter",
    metavar="FOLDER",
    help="Classify by what tuwen adapt learnt; with --url, the name of an adapter that the service serves.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help="A sentence with exactly one _ or {} for the label; repeat it to average several. By default the label alone.",
)
@click.option("--multi-label", is_flag=True, help="Judge each label by itself instead of against the others.")
@click.option(
    "--none-below",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Report 'none of these' where the best label, judged by itself, has a lower probability.",
)
@click.option("-o", "--output", type=options.NEW_FILE, metavar="FILE", help='Write {"path": "best label"} as JSON.')
@click.option(
    "--write-xmp",
    is_flag=True,
    help="Add the labels found to the keywords in XMP sidecars (cat.jpg.xmp); images are never changed.",
)
@click.option("--warmup", type=options.FILE, metavar="IMAGE", help="Warm up on this image before timing starts.")
@options.service
@options.computing
@options.as_json
def classify(
    *,
    computing: Computing,
    service: options.Address | None,
    path: Path,
    labels: str | None,
    label_file: Path | None,
    encoding: str | None,
    adapter: str | None,
    templates: Sequence[str],
    multi_label: bool,
    none_below: float | None,
    output: Path | None,
    write_xmp: bool,
    warmup: Path | None,
    as_json: bool,
) -> int:
    """Classify images by labels of your choice.

    PATH is an image, or a folder of images; paths in the result are relative to it. Probabilities use the model's own
    scale: softmax over the labels, or a sigmoid for each if the model was trained that way. With --multi-label, the
    probability of a softmax model is sigmoid(scale * (cosine - neutral)), where neutral is the cosine to the template
    without a label.

    --write-xmp adds the best label of each image, or with --multi-label all labels with a probability of at least 0.5.
    """
    if adapter is not None and (labels or label_file or templates or multi_label):
        raise click.UsageError("--adapter has its own labels: leave out the options about labels")
    if encoding is not None and label_file is None:
        raise click.UsageError("--encoding is that of --label-file")
    chosen = _labels(labels, label_file, encoding) if adapter is None else ()
    how = _How(chosen, templates, multi_label, none_below, adapter)
    if service is None:
        model, done, rejected = _classify_here(path, how, computing, warmup)
    else:
        model, done, rejected = _classify_there(path, how, service, warmup)
    if write_xmp:
        rejected += _write_sidecars(done, path, all_labels=multi_label)
    list_rejected(rejected)
    if output is not None:
        _write(done, output)
    if as_json:
        images = [_document(item, none_below is None and adapter is None) for item in done]
        emit({"model": model, "images": images, "rejected": [asdict(item) for item in rejected]})
    elif output is None:
        _show(done)
    return REJECTED if rejected else 0


def _document(prediction: Prediction, plain: bool) -> dict[str, object]:
    document = asdict(prediction)
    if plain:
        del document["none"]
    return document


def _labels(labels: str | None, label_file: Path | None, encoding: str | None) -> tuple[str, ...]:
    if labels is not None and label_file is None:
        return split_labels(labels)
    if label_file is not None and labels is None:
        return read_labels(label_file, encoding)
    raise click.UsageError('labels are missing: give either --labels "cat,dog" or --label-file FILE')


@dataclass(frozen=True, slots=True)
class _How:
    """What pictures may show, and how that is judged."""

    labels: Sequence[str]
    templates: Sequence[str]
    multi_label: bool
    none_below: float | None
    adapter: str | None


def _classify_here(path: Path, how: _How, computing: Computing, warmup: Path | None) -> Outcome:
    encoder = computing.load(computing.model_or_default)
    if how.adapter is not None:
        classifier = Classifier.load(how.adapter, encoder)
    else:
        templates = how.templates or (PLAIN,)
        _say_notes(how, templates, encoder)
        classifier = encoder.classifier(how.labels, templates, multi_label=how.multi_label)
    if warmup is not None:
        encoder.encode_images([warmup])
    return encoder.name, *_run_shown(path, classifier.stream(path, none_below=how.none_below))


def _say_notes(how: _How, templates: Sequence[str], encoder: Encoder) -> None:
    for note in text_notes([fill(template, label) for label in how.labels for template in templates], encoder):
        say(note)
    if len(how.labels) == 1 and encoder.scoring.kind == "softmax" and not how.multi_label:
        say("a single label always has probability 1; --multi-label judges it by itself")


def _classify_there(path: Path, how: _How, service: options.Address, warmup: Path | None) -> Outcome:
    if warmup is not None:
        raise click.UsageError(f"--warmup is for a model in this process, not for the service at {service}")
    with service.client() as client:
        template = how.templates or PLAIN
        classifier = client.classifier(how.labels, template, multi_label=how.multi_label, adapter=how.adapter)
        return client.models()[0].id, *_run_shown(path, classifier.stream(path, none_below=how.none_below))


def _run_shown(path: Path, batches: Generator[Predictions]) -> tuple[list[Prediction], list[Rejected]]:
    start = monotonic()
    done: list[Prediction] = []
    rejected: list[Rejected] = []
    with Progress("auto") as shown, closing(batches):
        if path.is_dir():
            shown.begin(_count_images(path) if shown.draws else None)
        for batch in batches:
            done += batch.predictions
            rejected += batch.rejected
            shown.show(len(done) + len(rejected))
    seconds = monotonic() - start
    say(f"{count(len(done), 'picture')} in {seconds:.2f} s ({len(done) / seconds:.1f} pictures/s)")
    return done, rejected


def _count_images(folder: Path) -> int:
    return sum(not isinstance(item, Skipped) for item in find_files([folder], folder))


def _show(done: Sequence[Prediction]) -> None:
    """All labels of one picture; the best label of each of several; nothing where there is none."""
    if not done:
        return
    if len(done) == 1:
        if done[0].none:
            say(f"{done[0].path}: {NONE}")
        table(("probability", "cosine", "label"), map(_cells, done[0].labels), numbers=(0, 1))
    else:
        best = [(*_cells(item.labels[0])[:2], item.best.label if item.best else NONE, item.path) for item in done]
        table(("probability", "cosine", "label", "path"), best, numbers=(0, 1))


def _cells(label: Label) -> tuple[str, str, str]:
    return f"{label.probability:.4f}", f"{label.cosine:.3f}", label.label


def _write_sidecars(done: Sequence[Prediction], path: Path, *, all_labels: bool) -> list[Rejected]:
    """Add the labels found to XMP sidecars, and say to how many; returns those that cannot be written."""
    written, rejected, sidecars = 0, [], Sidecars()
    for item in done:
        found = [label.label for label in item.labels if label.probability >= LIKELY] if all_labels else []
        if not all_labels and item.best is not None:
            found = [item.best.label]
        sidecar = sidecar_of(path_of(item.path, path) if path.is_dir() else path, sidecars)
        try:
            written += bool(found) and add_keywords(sidecar, found)
        except InvalidInput as error:
            rejected.append(Rejected(item.path, str(error)))
    say(f"{count(written, 'sidecar')} written")
    return rejected


def _write(done: Sequence[Prediction], file: Path) -> None:
    best = {item.path: item.best.label if item.best else None for item in done}
    replace_text(file, json.dumps(best, ensure_ascii=False, indent=2) + "\n")
    say(f"labels: {file}")
