"""`tuwen export`: a checkpoint to a verified bundle."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import click

from tuwen.bundle.bundle import Bundle
from tuwen.cli import bundles, options
from tuwen.cli.command import Command
from tuwen.cli.console import emit
from tuwen.errors import require
from tuwen.runtime.machine import peak_mib


@click.command(
    cls=Command,
    examples=(
        "tuwen export openclip:ViT-B-32 --weights ./open_clip_pytorch_model.bin -o b32",
        "tuwen export openclip:ViT-B-32/laion2b_s34b_b79k --weights w.bin -o b32 --precision fp32,fp16,int8",
        "tuwen export hf:./AltCLIP-m18 -o altclip-m18",
        "tuwen export ./open_clip_pytorch_model.bin --arch ViT-B-32-quickgelu -o b32",
        "tuwen export hf:./my-matryoshka -o small --dims 256",
        "tuwen export b32/ -o b32-small --precision int8 --images PHOTOS/",
    ),
)
@click.argument("source")
@click.option("--weights", type=options.FILE, metavar="FILE", help="The checkpoint; no code in it is run.")
@click.option("--arch", metavar="NAME", help="The architecture, if the file does not contain it.")
@click.option(
    "-o", "--output", type=options.ANY_PATH, metavar="FOLDER", required=True, help="The folder of the bundle."
)
@click.option("--precision", default="fp32", show_default=True, metavar="LIST", help="Which files: fp32, fp16, int8.")
@click.option("--name", metavar="NAME", help="The model's name; by default that of its source.")
@click.option(
    "--dims",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the first N numbers of each vector; for models trained with Matryoshka heads.",
)
@bundles.offline
@bundles.samples
@options.as_json
def export(
    *,
    source: str,
    weights: Path | None,
    arch: str | None,
    output: Path,
    precision: str,
    name: str | None,
    dims: int | None,
    images: Sequence[Path],
    texts: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Export a checkpoint to a verified bundle that needs no torch.

    SOURCE is openclip:ARCHITECTURE, or openclip:ARCHITECTURE/TAG, where the tag also decides how images are
    preprocessed; hf:FOLDER, chinese-clip:FILE, flagai:FOLDER or paddle:FILE; or the path of a checkpoint, whose
    family is detected from its content. A published checkpoint, or hf:ORG/NAME, is downloaded unless a file is given.
    Every stage is compared with the checkpoint in PyTorch, on every runtime of this machine. If any of them differs,
    nothing is written, and an existing FOLDER is left as it was.

    SOURCE can also be a bundle: it is exported again from its own files at other precisions, and compared with them.
    """
    start = monotonic()
    if (weights is not None or arch is not None) and (Path(source) / "tuwen.json").exists():
        raise click.UsageError(f"{source} is a bundle, which contains its weights: leave out --weights and --arch")
    precisions = bundles.listed(precision)
    require("torch", extra="export")
    from tuwen.exporting.export import export as to_bundle

    with bundles.download_shown(source) as progress:
        bundle = to_bundle(
            source,
            output,
            precisions=precisions,
            weights=weights,
            arch=arch,
            name=name,
            dims=dims,
            images=images,
            texts=texts,
            offline=offline,
            on_progress=progress,
        )
    options.as_set().measuring().plans(bundle)
    _show(bundle, start, as_json=as_json)


def _show(bundle: Bundle, start: float, *, as_json: bool) -> None:

    manifest, peak, seconds = bundle.manifest, peak_mib(), monotonic() - start
    if not as_json:
        bundles.show_checks(manifest.verify.values())
        precisions = ", ".join(bundle.precisions)
        click.echo(f"\n{bundle.folder}: {manifest.name}, {manifest.dim} dimensions, {precisions}")
        click.echo(f"{seconds:.0f} s" + ("" if peak is None else f", peak memory {peak:,.0f} MiB"))
        return
    emit(
        {
            **bundles.named(bundle),
            "cut_exact": manifest.text.cut_exact,
            "facts": manifest.facts,
            "seconds": seconds,
            "peak_mib": peak,
            "checks": bundles.checks_document(manifest.verify.values()),
        }
    )
