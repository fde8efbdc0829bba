"""`tuwen pull`: a model from the hub to a bundle on this machine; afterwards no command needs the network."""

from time import monotonic

import click

from tuwen.bundle.catalogue import licence_line
from tuwen.cli import options
from tuwen.cli.bundles import download_shown, listed, named, offline
from tuwen.cli.command import Command, say
from tuwen.cli.console import emit
from tuwen.exporting.pull import named as known_as
from tuwen.exporting.pull import pull as pull_model


@click.command(
    cls=Command,
    examples=(
        "tuwen pull ViT-B-32/laion2b_s34b_b79k",
        "tuwen pull xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k --export --precision fp32,int8",
        "HF_ENDPOINT=https://hub.example.org tuwen pull Xenova/clip-vit-base-patch32",
    ),
)
@click.argument("model")
@click.option("--precision", default="fp32", show_default=True, metavar="LIST", help="Which files: fp32, fp16, int8.")
@click.option("--export", "export", is_flag=True, help="Export the checkpoint even if ready ONNX files are published.")
@offline
@options.progress
@options.as_json
def pull(*, model: str, precision: str, export: bool, offline: bool, progress: str, as_json: bool) -> None:
    """Download a model from the hub.

    MODEL is a name that `tuwen models` lists, or a repository, ORG/NAME. The licence of its weights is shown first.
    Ready ONNX files are used where they are published; otherwise the checkpoint is downloaded and exported, which
    needs the extra `export`. Every command then finds the model by its name. A model that is already on this machine
    triggers no network request, and an interrupted download is resumed.
    """
    computing = options.as_set().measuring()
    start = monotonic()
    say(licence_line(known_as(model)))
    with download_shown(model, progress) as on_progress:
        found = pull_model(
            model,
            precisions=listed(precision),
            export=export,
            offline=offline,
            on_progress=on_progress,
        )
    bundle, manifest, seconds = found.bundle, found.bundle.manifest, monotonic() - start
    computing.plans(bundle)
    if manifest.scoring is None:
        say(f"{manifest.name} can search; tuwen classify also needs its logit scale: tuwen pull {model} --export")
    if as_json:
        emit(
            {
                **named(bundle),
                "source": manifest.source,
                "licence": manifest.licence or None,
                "already": found.already,
                "seconds": round(seconds, 3),
            }
        )
        return
    state = "is already here" if found.already else f"pulled in {seconds:.0f} s"
    click.echo(f"{manifest.name}: {state}; {', '.join(bundle.precisions)}, {manifest.dim} dimensions")
    click.echo(f"use it from anywhere: --model {manifest.name}")
