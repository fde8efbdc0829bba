"""`tuwen adapt`: a classifier from a few images of each class."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tuwen.classify.adapter import Adapter
from tuwen.classify.labels import PLAIN
from tuwen.classify.learning import AUTO, Labelled, encode_labelled, labelled_rows, learn
from tuwen.classify.methods import METHODS
from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import count, emit, list_rejected, table
from tuwen.cli.options import Computing
from tuwen.data.datasets import open_dataset
from tuwen.data.samples import Columns
from tuwen.evaluation.tasks import names_of
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder


@click.command(
    cls=Command,
    examples=(
        "tuwen adapt b32 FEW/ -o adapter/",
        'tuwen adapt b32 pairs.csv -o adapter/ --label-column class --template "a photo of a _"',
        "tuwen adapt b32 -o adapter/ --index photos.tuwen --label-field folder",
        "tuwen classify NEW/ --adapter adapter/",
    ),
)
@click.argument("model")
@click.argument("support", type=options.EXISTING, required=False)
@click.option("-o", "--output", type=options.ANY_PATH, required=True, metavar="FOLDER", help="Where the adapter goes.")
@click.option("--index", "folder", type=options.LOCATION, metavar="INDEX", help="Learn from the rows of an index.")
@click.option("--label-field", metavar="FIELD", help="With --index: the field that holds the class, e.g. folder.")
@click.option("--where", metavar="FILTER", help="With --index: only rows that match.")
@click.option("--method", type=click.Choice([AUTO, *METHODS]), default=AUTO, show_default=True)
@click.option("--labels", type=options.FILE, metavar="FILE", help="Names of the classes, a line each.")
@click.option("--template", "templates", multiple=True, metavar="TEXT", help="Prompt with _ for the name; repeatable.")
@click.option("--image-column", metavar="NAME", help="In tables: the image, or its path.")
@click.option("--label-column", metavar="NAME", help="In tables: the class.")
@click.option("--tune-on", type=options.EXISTING, metavar="PATH", help="Choose on these images, not on left-out ones.")
@options.computing_of_argument
@options.progress
@options.as_json
def adapt(
    *,
    computing: Computing,
    support: Path | None,
    output: Path,
    folder: Location | None,
    label_field: str | None,
    where: str | None,
    method: str,
    labels: Path | None,
    templates: Sequence[str],
    image_column: str | None,
    label_column: str | None,
    tune_on: Path | None,
    progress: str,
    as_json: bool,
) -> int:
    """Learn a classifier from a few images of each class.

    SUPPORT is a folder with a folder for each class, or a table of images and labels; or name an index and the field
    that tells its classes apart. Method and parameters are chosen on support images that are left out in turn, and
    zero-shot classification is kept where it is clearly better.
    """
    if (support is None) == (folder is None):
        raise click.UsageError("name either SUPPORT or --index INDEX")
    if (folder is None) != (label_field is None):
        raise click.UsageError("--index and --label-field go together")
    assert computing.model is not None, "MODEL is an argument"
    if computing.runtime == "torch":
        raise click.UsageError("an adapter belongs to a bundle: leave out --runtime torch")
    encoder = computing.load(computing.model)
    columns = Columns(image=image_column, label=label_column)
    names = None
    if support is not None:
        dataset = open_dataset(support, columns=columns)
        found = _encoded(encoder, dataset, progress)
        names = None if labels is None else [", ".join(several) for several in names_of(dataset, labels)]
    else:
        found = _rows(encoder, folder, str(label_field), where, computing)
    beside = None if tune_on is None else _encoded(encoder, open_dataset(tune_on, columns=columns), progress)
    for warning in found.warnings:
        say(f"warning: {warning}")
    list_rejected(found.rejected)
    adapter = learn(encoder, found, method=method, names=names, templates=templates or (PLAIN,), tune_on=beside)
    adapter.save(output)
    _show(adapter, found, output, as_json=as_json)
    return REJECTED if found.rejected else 0


def _encoded(encoder: Encoder, dataset: Any, progress: str) -> Labelled:  # noqa: ANN401
    with _shown(progress, len(dataset)) as show:
        return encode_labelled(encoder, dataset, show)


@contextmanager
def _shown(kind: str, total: int) -> Any:  # noqa: ANN401
    with Progress(kind) as bar:
        bar.begin(total)
        yield lambda done, _total: bar.show(done)


def _rows(encoder: Encoder, folder: Location | None, field: str, where: str | None, computing: Computing) -> Labelled:
    place = options.index_folder(folder)
    with VectorIndex.open(place, encoder=encoder, lock_timeout=computing.settings.lock_timeout) as index:
        return labelled_rows(index, field, where)


def _show(adapter: Adapter, found: Labelled, output: Path, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "adapter": str(output),
                "model": adapter.model,
                "fingerprint": adapter.fingerprint,
                "classes": list(adapter.classes),
                "method": adapter.method,
                "parameters": dict(adapter.parameters),
                "temperature": adapter.temperature,
                "none_below": adapter.none_below,
                "measured": dict(adapter.measured),
                "warnings": list(found.warnings),
                "rejected": [asdict(item) for item in found.rejected],
            }
        )
        return
    click.echo(
        f"{count(len(found.labels), 'image')} of {len(found.classes)} classes; method {adapter.method}: {output}"
    )
    figures = adapter.measured["accuracy"]
    if adapter.none_below is None:
        click.echo("one image of each class: nothing was tuned or measured")
        return
    rows = [(name, f"{100 * value:.1f} %") for name, value in figures.items()]
    table(("method", f"accuracy on {adapter.measured['on']}"), rows, numbers=(1,))
    rejects = 100 * adapter.measured["false_rejects"]
    click.echo(
        f"'none of these' below a probability of {adapter.none_below:.3f}, which rejects {rejects:.1f} % wrongly"
    )
