"""`tuwen verify`: check that a bundle computes what its checkpoint does, on this machine."""

from collections.abc import Sequence
from pathlib import Path

import click

from tuwen.classify.labels import PLAIN, fill, split_labels
from tuwen.cli import bundles, options
from tuwen.cli.command import Command, steps_shown
from tuwen.cli.console import emit
from tuwen.errors import require
from tuwen.runtime.loading import find_bundle
from tuwen.settings import read_settings


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
    help="Compare with this checkpoint in PyTorch, named as for tuwen export; torch: the bundle's own.",
)
@click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, or its weights' file.")
@click.option("--arch", metavar="NAME", help="Its architecture, if the file does not contain it.")
@click.option(
    "--devices",
    metavar="A,B,…",
    help="Compare these: DEVICE[:RUNTIME][@PRECISION], for example cpu, cuda:1, cpu:openvino@int8.",
)
@bundles.samples
@click.option("--labels", metavar="A,B,…", help="Compare probabilities over these labels instead of captions.")
@click.option("--template", default="_", metavar="TEXT", help='The template for labels: "a photo of a _".')
@click.option(
    "--report", type=options.ANY_PATH, metavar="FILE", help="Write a report in Markdown, with a plot in FILE.png."
)
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
    if (weights is not None or arch is not None) and against is None:
        raise click.UsageError("--weights and --arch describe the checkpoint of --against: add --against SOURCE")
    if against is not None and devices is not None:
        raise click.UsageError(
            "--devices compares devices with each other, --against compares with PyTorch: use one of them"
        )
    require("torch", extra="export")
    from tuwen.exporting.samples import Samples, given, labelled
    from tuwen.exporting.verify import verify as verify_bundle

    settings = read_settings()
    samples: Samples | None = None
    if labels is not None and texts is None:
        samples = labelled(images, [fill(template, label) for label in split_labels(labels)])
    elif labels is not None or template != PLAIN:
        raise click.UsageError("--labels and --template replace --texts: give --labels A,B,… without --texts")
    elif images or texts is not None:
        samples = given(images, texts)
    bundle = find_bundle(model, settings.models, settings.cache)
    with steps_shown():
        found = verify_bundle(
            bundle, against=against, weights=weights, arch=arch, devices=devices or None, samples=samples
        )
    if report is not None:
        found.write(report)
    if as_json:
        checks = bundles.checks_document(found.reports)
        emit({"bundle": str(bundle.folder), "passed": found.passed, "checks": checks})
    else:
        bundles.show_checks(found.reports)
        click.echo(f"\n{bundle.manifest.name}: {'passed' if found.passed else 'FAILED'}")
    return 0 if found.passed else 1
