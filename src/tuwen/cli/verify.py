"""`tuwen verify`: does a bundle still compute what it should, here and now?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.classify.labels import fill, split_labels
from tuwen.cli import options
from tuwen.cli import verification as proof
from tuwen.cli.command import Command
from tuwen.cli.console import emit
from tuwen.errors import require
from tuwen.runtime.loading import find_bundle
from tuwen.settings import read_settings

if TYPE_CHECKING:
    from tuwen.exporting.samples import Samples
    from tuwen.exporting.verify import Verification


@click.command(
    cls=Command,
    examples=(
        "tuwen verify b32 --images PHOTOS/ --texts captions.txt --report b32.md",
        "tuwen verify b32 --against openclip:ViT-B-32 --weights ./open_clip_pytorch_model.bin",
        "tuwen verify ViT-B-32/laion2b_s34b_b79k --against torch",
        'tuwen verify b32 --images cat.jpg --labels "cat,dog" --template "a photo of a _" --devices cpu,cuda',
        "tuwen verify b32 --devices cpu:onnxruntime,cpu:openvino,cpu:openvino@int8",
    ),
)
@click.argument("model")
@click.option(
    "--against",
    metavar="SOURCE",
    help="The checkpoint in PyTorch, named as for tuwen export; torch: the bundle's own.",
)
@click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, or its weights' file.")
@click.option("--arch", metavar="NAME", help="Its architecture, where the file does not tell it.")
@click.option(
    "--devices",
    metavar="A,B,…",
    help="Compare these with the first of them: DEVICE[:RUNTIME][@PRECISION], e.g. cpu, cuda:1, cpu:openvino@int8.",
)
@proof.samples
@click.option("--labels", metavar="A,B,…", help="Labels to compare probabilities over, in place of captions.")
@click.option("--template", default="_", metavar="TEXT", help='What a label stands in: "a photo of a _".')
@click.option("--report", type=options.ANY_PATH, metavar="FILE", help="Write Markdown, and a plot beside it, FILE.png.")
@options.as_json
def verify(
    *,
    model: str,
    against: str | None,
    weights: Path | None,
    arch: str | None,
    devices: str | None,
    images: Sequence[Path],
    texts: Path | None,
    labels: str | None,
    template: str,
    report: Path | None,
    as_json: bool,
) -> int:
    """Check that a bundle computes what its checkpoint does.

    Every precision on every runtime of this machine is compared with the canonical outputs that export stored in the
    bundle, and with the figures recorded then; no checkpoint is needed. On your own images, texts or labels it is
    also compared with its best files on ONNX Runtime, which shows what other precisions and runtimes change.

    With --against, it is compared with the checkpoint in PyTorch instead; a checkpoint that was pulled or exported
    by name is still on this machine, and nothing is downloaded. With --devices, each device, runtime or precision is
    compared with the canonical outputs and with the first one named. With --labels, the probabilities of the images
    over these labels must agree to a cosine above 0.99. Exit code 1 if a check fails.
    """
    require("torch", extra="export")
    from tuwen.exporting.verify import verify as verify_bundle

    _check_words(against, weights, arch, devices)
    settings, samples = read_settings(), _samples(images, texts, labels, template)
    bundle = find_bundle(model, settings.models, settings.cache)
    with proof.steps_shown():
        found = verify_bundle(
            bundle, against=against, weights=weights, arch=arch, devices=devices or None, samples=samples
        )
    if report is not None:
        found.write(report)
    return _show(found, as_json=as_json)


def _show(found: "Verification", *, as_json: bool) -> int:
    bundle, passed = found.bundle, found.passed
    if as_json:
        emit({"bundle": str(bundle.folder), "passed": passed, "checks": proof.as_documents(found.reports)})
    else:
        proof.show_checks(found.reports)
        click.echo(f"\n{bundle.manifest.name}: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


def _check_words(against: str | None, weights: Path | None, arch: str | None, devices: str | None) -> None:
    if (weights is not None or arch is not None) and against is None:
        raise click.UsageError("--weights and --arch are of the checkpoint that --against names: add --against SOURCE")
    if against is not None and devices is not None:
        raise click.UsageError("--devices compares places with each other, --against with PyTorch: leave one out")


def _samples(images: Sequence[Path], texts: Path | None, labels: str | None, template: str) -> "Samples | None":
    from tuwen.exporting.samples import given, labelled

    if labels is None and template == "_":
        return given(images, texts) if images or texts is not None else None
    if labels is None or texts is not None:
        raise click.UsageError("--labels A,B,… and --template stand in place of --texts: give the labels alone")
    return labelled(images, [fill(template, label) for label in split_labels(labels)])
