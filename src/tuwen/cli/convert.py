"""`tuwen convert`: a bundle to the format of another runtime."""

import shlex
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, cast

import click

from tuwen.bundle.converted import Converted, Target
from tuwen.bundle.manifest import TOWERS, Report
from tuwen.cli import bundles, options
from tuwen.cli.command import Command, say, steps_shown
from tuwen.cli.console import emit
from tuwen.cli.options import as_set
from tuwen.runtime.loading import find_bundle

if TYPE_CHECKING:
    from tuwen.exporting.tools import Weights


@click.command(
    cls=Command,
    examples=(
        "tuwen convert b32 --to openvino --precision fp16",
        "tuwen convert b32 --to mnn -o b32-mnn",
        "tuwen convert b32 --to tensorrt --batch 1,8,32 --dry-run",
        "tuwen convert b32 --to om --chip 310P3 --batch 1,8",
    ),
)
@click.argument("model")
@click.option(
    "--to",
    type=click.Choice(["openvino", "mnn", "ncnn", "tensorrt", "om"]),
    required=True,
    help="OpenVINO IR, MNN, ncnn; TensorRT engines by trtexec; Ascend OM by atc.",
)
@click.option("-o", "--output", type=options.ANY_PATH, metavar="FOLDER", help="The output folder; MODEL-TO by default.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    help="Precision of the weights; fp32 by default, fp16 for tensorrt and om.",
)
@click.option(
    "--tower",
    type=click.Choice(["both", "vision", "text"]),
    default="both",
    show_default=True,
    help="Which towers to convert.",
)
@click.option(
    "--batch",
    "batches",
    type=options.Sizes(),
    default="1,8,32",
    show_default=True,
    metavar="LIST",
    help="Batch sizes. tensorrt: minimum, optimum and maximum; om: one file for each.",
)
@click.option("--chip", metavar="NAME", help="The processor, for om, as npu-smi info reports it, for example 310P3.")
@click.option("--dry-run", is_flag=True, help="Print the commands without running them.")
@options.as_json
def convert(
    *,
    model: str,
    to: str,
    output: Path | None,
    precision: "Weights | None",
    tower: str,
    batches: tuple[int, ...],
    chip: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Convert a bundle for another runtime, and compare the two.

    If the outputs differ, nothing is written, and an existing FOLDER is left as it was. TensorRT engines and OM files
    are not compared, because they need their hardware.
    """
    from tuwen.exporting.convert import conversion_commands
    from tuwen.exporting.convert import convert as convert_bundle

    start, computing = monotonic(), as_set()
    bundle = find_bundle(model, computing.settings.models, computing.settings.cache)
    target = cast("Target", to)
    towers = [name for name in TOWERS if tower in ("both", name)]
    folder = (output or Path(f"{Path(model).resolve().name}-{to}")).absolute()
    if dry_run:
        lines = conversion_commands(
            bundle, folder, target, precision=precision, towers=towers, batches=batches, chip=chip
        )
        _show_commands(lines, to, as_json=as_json)
        return
    with steps_shown():
        found = convert_bundle(
            bundle,
            folder,
            target,
            precision=precision,
            towers=towers,
            batches=batches,
            chip=chip,
            threads=computing.cores,
        )
    _show(found, folder, monotonic() - start, as_json=as_json)


def _show_commands(lines: list[tuple[str, ...]], to: str, *, as_json: bool) -> None:
    if as_json:
        emit({"to": to, "commands": [list(line) for line in lines]})
        return
    for line in lines:
        click.echo(shlex.join(line))
    if not lines:
        say(f"{to} is written by its package in this process: there is no command to run")


def _show(converted: Converted, folder: Path, seconds: float, *, as_json: bool) -> None:

    report = Report(passed=True, checks=converted.checks)
    if as_json:
        emit(_as_document(converted, folder, report, seconds))
        return
    if converted.checks:
        bundles.show_checks([report])
    else:
        click.echo("not compared with the bundle: this machine cannot run the result")
    click.echo(
        f"\n{folder}: {converted.model} for {converted.to}, weights in {converted.precision}, by {converted.tool}"
    )
    if converted.unit_length is False:
        say(
            f"note: {converted.to} does not return unit vectors for a batch: normalise them where you run the model; "
            "tuwen does"
        )


def _as_document(converted: Converted, folder: Path, report: Report, seconds: float) -> dict[str, object]:
    return {
        "out": str(folder),
        "to": converted.to,
        "model": converted.model,
        "fingerprint": converted.fingerprint,
        "precision": converted.precision,
        "towers": list(converted.inputs),
        "tool": converted.tool,
        "commands": [list(command) for command in converted.commands],
        "unit_length": converted.unit_length,
        "seconds": seconds,
        "checks": bundles.checks_document([report]),
    }
