"""`tuwen export`: a checkpoint to a verified bundle."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

import click

from tuwen.bundle.manifest import Precision
from tuwen.cli import options, proof
from tuwen.cli.command import Command
from tuwen.cli.output import emit
from tuwen.extras import require


@click.command(
    cls=Command,
    examples=(
        "tuwen export openclip:ViT-B-32 --weights ./open_clip_pytorch_model.bin -o b32",
        "tuwen export openclip:ViT-B-32/laion2b_s34b_b79k --weights model.safetensors -o b32 --precision fp32,fp16",
    ),
)
@click.argument("source")
@click.option(
    "--weights", type=options.FILE, metavar="FILE", help="The checkpoint; read without running code in it."
)
@click.option("-o", "--output", type=options.ANY_PATH, metavar="FOLDER", required=True, help="The bundle.")
@click.option(
    "--precision", default="fp32", show_default=True, metavar="LIST", help="Which files: fp32, fp16, or both."
)
@click.option("--name", metavar="NAME", help="What to call the model; else after its source.")
@proof.samples
@options.as_json
def export(
    *,
    source: str,
    weights: Path | None,
    output: Path,
    precision: str,
    name: str | None,
    images: Sequence[Path],
    texts: Path | None,
    as_json: bool,
) -> None:
    """Export a checkpoint to a bundle that needs no torch.

    SOURCE is openclip:ARCHITECTURE, or openclip:ARCHITECTURE/TAG where the published tag decides how pictures are
    prepared. Every stage is compared with the checkpoint in PyTorch, on every runtime of this machine; a bundle
    that differs is not published, and what stood at FOLDER stays.
    """
    require("torch", extra="export")
    from tuwen.export.bundle import export as to_bundle
    from tuwen.export.samples import given
    from tuwen.models.sources import load_source

    start = monotonic()
    with proof.steps_shown():
        towers = load_source(source, weights)
        towers = replace(towers, name=name or towers.name)
        precisions = cast(Sequence[Precision], [part.strip() for part in precision.split(",")])
        bundle = to_bundle(towers, output, precisions, given(images, texts))
    manifest, reports = bundle.manifest, bundle.manifest.verify.values()
    document = {
        "bundle": str(output),
        "model": manifest.name,
        "fingerprint": manifest.fingerprint(),
        "precisions": list(bundle.precisions),
        "dim": manifest.dim,
        "cut_exact": manifest.text.cut_exact,
        "facts": manifest.facts,
        "seconds": monotonic() - start,
        "peak_mib": peak_mib(),
        "checks": proof.as_documents(reports),
    }
    if as_json:
        emit(document)
    else:
        proof.show_checks(reports)
        click.echo(f"\n{output}: {manifest.name}, {manifest.dim} numbers a vector, {', '.join(bundle.precisions)}")
        click.echo(f"{document['seconds']:.0f} s, at most {document['peak_mib']:,.0f} MiB of memory")


def peak_mib() -> float | None:
    """The most memory that this process has had resident so far, in MiB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
