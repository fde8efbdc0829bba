"""`tuwen verify`: does a bundle still compute what it should, here and now?"""

from collections.abc import Sequence
from pathlib import Path

import click

from tuwen.cli import options, proof
from tuwen.cli.command import Command
from tuwen.cli.options import read_settings
from tuwen.cli.output import emit
from tuwen.extras import require


@click.command(
    cls=Command,
    examples=(
        "tuwen verify b32 --images PHOTOS/ --texts captions.txt",
        "tuwen verify b32 --against openclip:ViT-B-32/openai --weights ./open_clip_pytorch_model.bin",
    ),
)
@click.argument("model")
@click.option("--against", metavar="SOURCE", help="The checkpoint in PyTorch, named as for tuwen export.")
@click.option("--weights", type=options.FILE, metavar="FILE", help="The checkpoint's file.")
@click.option("--arch", metavar="NAME", help="Its architecture, where the file does not tell it.")
@proof.samples
@options.as_json
def verify(
    *,
    model: str,
    against: str | None,
    weights: Path | None,
    arch: str | None,
    images: Sequence[Path],
    texts: Path | None,
    as_json: bool,
) -> int:
    """Compare a bundle stage by stage with its checkpoint, or with itself.

    With --against, every file of the bundle on every runtime of this machine is compared with the checkpoint in
    PyTorch. Without, with the bundle's own best files on ONNX Runtime: what other precisions and runtimes change.
    Exit code 1 if a check fails.
    """
    require("torch", extra="export")
    from tuwen.export.samples import given
    from tuwen.export.verify import baseline, reference
    from tuwen.export.verify import verify as compare
    from tuwen.models.sources import load_source
    from tuwen.tasks.load import find_bundle

    if weights is not None and against is None:
        raise click.UsageError("--weights is the file of the checkpoint that --against names: add --against SOURCE")
    settings, samples = read_settings(), given(images, texts)
    bundle = find_bundle(model, settings.models, settings.cache)
    with proof.steps_shown():
        known = (
            reference(load_source(against, weights, arch=arch), samples) if against else baseline(bundle, samples)
        )
        reports = compare(bundle, known).values()
    passed = all(report.passed for report in reports)
    if as_json:
        emit({"bundle": str(bundle.folder), "passed": passed, "checks": proof.as_documents(reports)})
    else:
        proof.show_checks(reports)
        click.echo(f"\n{bundle.manifest.name}: {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1
