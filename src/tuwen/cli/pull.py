"""`tuwen pull`: a model from the hub to a bundle on this machine; afterwards no command needs the network."""

from time import monotonic

import click

from tuwen.bundle.bundle import Bundle
from tuwen.cli import hub, options
from tuwen.cli import verification as proof
from tuwen.cli.command import Command, say
from tuwen.cli.console import emit
from tuwen.exporting.pull import pull as pull_model
from tuwen.settings import read_settings


@click.command(
    cls=Command,
    examples=(
        "tuwen pull ViT-B-32/laion2b_s34b_b79k",
        "tuwen pull xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k --export --precision fp32,int8",
        "HF_ENDPOINT=https://hub.example.org tuwen pull Xenova/clip-vit-base-patch32",
    ),
)
@click.argument("model")
@click.option(
    "--precision", default="fp32", show_default=True, metavar="LIST", help="Which files: of fp32, fp16, int8."
)
@click.option("--export", "exports", is_flag=True, help="From the checkpoint, even if ready ONNX files are known.")
@hub.offline
@options.progress
@options.as_json
def pull(*, model: str, precision: str, exports: bool, offline: bool, progress: str, as_json: bool) -> None:
    """Download a model from the hub.

    MODEL is a name that `tuwen models` lists, or a repository, ORG/NAME. Ready ONNX files are taken where they are
    known; else the checkpoint is fetched and exported, which needs the extra `export`. A model that is here already
    causes no request. A transfer that broke off, for whatever reason, is gone on with.
    """
    read_settings()  # reports a setting with an impossible value
    kinds, start = hub.listed(precision), monotonic()
    with hub.shown(model, progress) as show:
        bundle, already = pull_model(model, precisions=kinds, export=exports, offline=offline, on_progress=show)
    if bundle.manifest.scoring is None:
        say(f"{bundle.manifest.name} searches; for tuwen classify, its scale is needed: tuwen pull {model} --export")
    _show(bundle, already=already, seconds=monotonic() - start, as_json=as_json)


def _show(bundle: Bundle, *, already: bool, seconds: float, as_json: bool) -> None:
    manifest = bundle.manifest
    if as_json:
        emit(
            {
                **proof.named(bundle),
                "source": manifest.source,
                "already": already,
                "seconds": round(seconds, 3),
            }
        )
        return
    state = "is here already" if already else f"pulled in {seconds:.0f} s"
    click.echo(f"{manifest.name}: {state}; {', '.join(bundle.precisions)}, {manifest.dim} numbers a vector")
    click.echo(f"use it from anywhere: --model {manifest.name}")
