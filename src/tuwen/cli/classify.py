"""`tuwen classify`: which of some labels fits a picture."""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

import click

from tuwen.classify.classifier import Classified
from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import Progress, count, emit, list_rejected, table
from tuwen.cli.options import Computing
from tuwen.data.files import Skipped, find_files, key_of
from tuwen.errors import RejectedImages, TooLarge
from tuwen.runtime.pipeline import ahead, grouped, threads
from tuwen.types import Rejected, Source

if TYPE_CHECKING:
    from tuwen.classify.classifier import Classified, Label
    from tuwen.classify.labels import LabelVectors
    from tuwen.client.client import Client
    from tuwen.runtime.encoder import Encoder
    from tuwen.types import Rejected

Outcome: TypeAlias = "tuple[str, list[Classified], list[Rejected]]"
"""The model's name, the pictures that are labelled, those that cannot be read."""


@click.command(
    cls=Command,
    examples=(
        'tuwen classify cat.jpg --labels "cat,dog,rat,man,woman" --template "a photo of a _"',
        'tuwen classify PHOTOS/ --label-file labels.txt --template "一张_的照片" -o res.json',
        'tuwen classify cat.jpg --labels "cat,dog" --url http://127.0.0.1:8000',
    ),
)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--labels", metavar="A,B,…", help="Labels, with commas between them (, ， 、 ،).")
@click.option("--label-file", type=options.FILE, help="Labels, one a line, in UTF-8.")
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help="A sentence with exactly one _ or {} for the label; repeatable, then averaged. Else the label alone.",
)
@click.option("--multi-label", is_flag=True, help="Judge each label by itself, not against the others.")
@click.option("-o", "--output", type=options.NEW_FILE, metavar="FILE", help='Write {"path": "best label"} as JSON.')
@click.option("--warmup", type=options.FILE, metavar="IMAGE", help="Run this picture first, outside the timing.")
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
    templates: Sequence[str],
    multi_label: bool,
    output: Path | None,
    warmup: Path | None,
    as_json: bool,
) -> int:
    """Say which of some labels fits a picture.

    PATH is a picture, or a folder whose pictures are all labelled; paths are relative to it. Probabilities use the
    model's own scale: softmax over the labels, or sigmoid of each where the model was trained so. With
    --multi-label, a softmax model's probability is sigmoid(scale * (cosine - neutral)); neutral is the cosine to
    the template without any label.
    """
    chosen = _labels(labels, label_file)
    how = _How(chosen, templates, multi_label)
    if service is None:
        model, done, rejected = _classify_here(path, how, computing, warmup)
    else:
        model, done, rejected = _classify_there(path, how, service, warmup)
    list_rejected(rejected)
    if output is not None:
        _write(done, output)
    if as_json:
        images = [asdict(item) for item in done]
        emit({"model": model, "images": images, "rejected": [asdict(item) for item in rejected]})
    elif output is None:
        _show(done)
    return REJECTED if rejected else 0


def _labels(labels: str | None, label_file: Path | None) -> tuple[str, ...]:
    from tuwen.classify.labels import read_labels, split_labels

    if labels is not None and label_file is None:
        return split_labels(labels)
    if label_file is not None and labels is None:
        return read_labels(label_file)
    raise click.UsageError('give the labels, either as --labels "cat,dog" or as --label-file FILE')


@dataclass(frozen=True, slots=True)
class _How:
    """What pictures may show, and how that is judged."""

    labels: Sequence[str]
    templates: Sequence[str]
    multi_label: bool


def _classify_here(path: Path, how: _How, computing: Computing, warmup: Path | None) -> Outcome:
    from tuwen.classify.classifier import classify as label_pictures

    encoder = computing.load(computing.model or computing.settings.default_model)
    known = _encode_labels(how, encoder)
    if warmup is not None:
        encoder.encode_images([warmup])
    reading = computing.reading(encoder)
    batches = label_pictures(
        path, known, encoder, reading=reading, decoders=computing.cores, multi_label=how.multi_label
    )
    return encoder.name, *_run_shown(path, batches)


def _classify_there(path: Path, how: _How, service: options.Address, warmup: Path | None) -> Outcome:

    if warmup is not None:
        raise click.UsageError(
            f"--warmup is for a model of this process, not for the service at {service}: leave it out"
        )
    with service.client() as client:
        batches = classify_files(path, how.labels, how.templates, client, multi_label=how.multi_label)
        return client.models()[0].id, *_run_shown(path, batches)


def _encode_labels(how: _How, encoder: "Encoder") -> "LabelVectors":
    from tuwen.classify.labels import PLAIN, fill, label_vectors
    from tuwen.runtime.languages import text_notes

    templates = how.templates or (PLAIN,)
    for note in text_notes([fill(template, label) for label in how.labels for template in templates], encoder):
        say(note)
    if len(how.labels) == 1 and encoder.scoring.kind == "softmax" and not how.multi_label:
        say("one label alone always has probability 1; --multi-label judges it by itself")
    return label_vectors(how.labels, templates, encoder)


def _run_shown(
    path: Path, batches: "Generator[list[Classified | Rejected]]"
) -> "tuple[list[Classified], list[Rejected]]":
    from tuwen.data.files import Skipped, find_files
    from tuwen.types import Rejected

    start = monotonic()
    done: list[Classified] = []
    rejected: list[Rejected] = []
    with Progress("auto") as shown, closing(batches):
        if path.is_dir():
            shown.begin(
                sum(not isinstance(item, Skipped) for item in find_files([path], path)) if shown.draws else None
            )
        for batch in batches:
            rejected += [item for item in batch if isinstance(item, Rejected)]
            done += [item for item in batch if not isinstance(item, Rejected)]
            shown.show(len(done) + len(rejected))
    seconds = monotonic() - start
    say(f"{count(len(done), 'picture')} in {seconds:.2f} s ({len(done) / seconds:.1f} pictures/s)")
    return done, rejected


def _show(done: "Sequence[Classified]") -> None:
    """All labels of one picture; the best label of each of several; nothing where there is none."""
    if not done:
        return
    if len(done) == 1:
        table(("probability", "cosine", "label"), map(_cells, done[0].labels), numbers=(0, 1))
    else:
        best = [(*_cells(item.labels[0]), item.path) for item in done]
        table(("probability", "cosine", "label", "path"), best, numbers=(0, 1))


def _cells(label: "Label") -> tuple[str, str, str]:
    return f"{label.probability:.4f}", f"{label.cosine:.3f}", label.label


def _write(done: "Sequence[Classified]", file: Path) -> None:
    """Aside, then renamed: whoever reads the file finds it whole."""
    best = {item.path: item.labels[0].label for item in done}
    aside = file.with_name(f".{file.name}.part")
    aside.write_text(json.dumps(best, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    aside.replace(file)
    say(f"labels: {file}")


# ---- Pictures of this machine, labelled by a service: one request each, a few at a time.

AT_ONCE = 8
"""requests under way: enough to fill a service's batches, few enough for its queue"""


def classify_files(
    path: Path, labels: Sequence[str], templates: Sequence[str], client: "Client", *, multi_label: bool
) -> Generator[list[Classified | Rejected]]:
    """As `tasks.classify.classify`, by a service."""
    found = find_files([path], path) if path.is_dir() else [Source(key_of(path, path.parent), path, 0, 0.0)]
    items = (item for item in found if not isinstance(item, Skipped))

    def label(item: Source | Rejected) -> Classified | Rejected:
        if isinstance(item, Rejected):
            return item
        try:
            return Classified(item.key, client.classify(item.path, labels, templates or None, multi_label=multi_label))
        except RejectedImages as error:
            return Rejected(item.key, error.rejected[0].reason)
        except TooLarge as error:
            return Rejected(item.key, f"is too long for the service: {error}")

    with threads(AT_ONCE) as pool:
        yield from grouped(ahead(pool, label, items, early=AT_ONCE), AT_ONCE)
