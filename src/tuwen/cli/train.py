"""`tuwen train`: train a model on image-text pairs and export it."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuwen.bundle.bundle import read_bundle
from tuwen.cli import bundles, options
from tuwen.cli.bench import bench
from tuwen.cli.command import REJECTED, Command, say, steps_shown
from tuwen.cli.console import emit
from tuwen.errors import require

if TYPE_CHECKING:
    from tuwen.training.loop import TrainResult


@click.command(
    cls=Command,
    examples=(
        "tuwen train -c clip.yaml -o data.train=./photos -o optimizer.lr=4e-4",
        "torchrun --nproc-per-node 4 -m tuwen train -c clip.yaml",
        "tuwen train --resume output",
    ),
)
@click.option("-c", "--config", type=options.FILE, metavar="FILE", help="What to train, in YAML.")
@click.option(
    "-o",
    "--override",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting of the file; repeatable.",
)
@click.option("--resume", type=options.FOLDER, metavar="FOLDER", help="Resume the run of this output folder.")
@click.option("--print-config", is_flag=True, help="Print the whole configuration, including defaults, and exit.")
@options.as_json
def train(
    config: Path | None, overrides: Sequence[str], resume: Path | None, print_config: bool, as_json: bool
) -> int | None:
    """Train a model on image-text pairs and export it.

    The folder run.output gets checkpoints, log.jsonl, TensorBoard's files, report.md with curves.png, and bundle/.
    A run that was stopped continues with --resume, by the configuration in its folder.
    """
    require("torch", extra="train")  # which the modules below import at their top
    from tuwen.training import run
    from tuwen.training.config_file import dump_config
    from tuwen.training.distributed import is_first, is_launched

    chosen = run.configuration(config, overrides, resume)
    if print_config:
        click.echo(dump_config(chosen) if is_first() else "", nl=False)
        return None
    try:
        with steps_shown():
            result = run.train(config, overrides, resume=resume, on_line=say)
    except KeyboardInterrupt:
        if is_first():
            say(f"resume from the last checkpoint with tuwen train --resume {shlex.quote(str(chosen.run.output))}")
        raise
    if not is_first():
        return None
    if result.bundle is not None and chosen.export.bench:
        _bench(result.bundle)
    _show(result, as_json=as_json)
    return REJECTED if result.skipped and not is_launched() else None


def _show(result: "TrainResult", *, as_json: bool) -> None:
    if as_json:
        emit(_document(result))
    else:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
        click.echo(f"{result.output}: {result.steps:,} steps in {result.seconds:,.0f} s; {metrics}".rstrip("; "))
        bundle = f"; bundle: {result.bundle}" if result.bundle else ""
        click.echo(f"best: step {result.best_step:,}; report: {result.report}{bundle}")
    for key, reason in result.skipped.items():
        say(f"skipped: {key}: {reason}")


def _bench(folder: Path) -> None:
    """Show `tuwen bench --quick` on standard error: standard output has one document."""
    with redirect_stdout(sys.stderr):
        click.get_current_context().invoke(bench, model=str(folder), quick=True)


def _document(result: "TrainResult") -> dict[str, Any]:
    manifest = None if result.bundle is None else read_bundle(result.bundle).manifest
    return {
        "output": str(result.output),
        "steps": result.steps,
        "best": result.best_step,
        "figures": result.metrics,
        "seconds": result.seconds,
        "report": str(result.report),
        "bundle": None if result.bundle is None else str(result.bundle),
        "fingerprint": None if manifest is None else manifest.fingerprint(),
        "checks": [] if manifest is None else bundles.checks_document(manifest.verify.values()),
        "skipped": [{"key": key, "reason": reason} for key, reason in result.skipped.items()],
    }
