"""`tuwen train`: pairs to a checkpoint, to a verified bundle, in one command."""

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuwen.bundle.bundle import Bundle
from tuwen.cli import options
from tuwen.cli import verification as proof
from tuwen.cli.bench import bench
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import emit
from tuwen.errors import InvalidInput, require
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import dump_config, read_config

if TYPE_CHECKING:
    from tuwen.training.loop import Outcome

_BUNDLE = "bundle"


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
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="Wins over the file; repeatable."
)
@click.option("--resume", type=options.FOLDER, metavar="FOLDER", help="Go on with the run of this output folder.")
@click.option("--print-config", is_flag=True, help="Print the whole configuration, defaults included, and end.")
@options.as_json
def train(
    config: Path | None, overrides: Sequence[str], resume: Path | None, print_config: bool, as_json: bool
) -> int | None:
    """Train a model on image-text pairs and export it.

    The folder run.output gets checkpoints, log.jsonl, TensorBoard's files, report.md with curves.png, and bundle/.
    A run that was stopped goes on where it was with --resume, by the configuration in its folder.
    """
    require("torch", extra="train")

    chosen = _chosen(config, overrides, resume)
    from tuwen.training.distributed import is_first

    if print_config:
        click.echo(dump_config(chosen) if is_first() else "", nl=False)
        return None
    from tuwen.training.loop import train as run

    try:
        outcome = run(chosen, say, resume=resume is not None)
    except KeyboardInterrupt:
        if is_first():
            say(f"go on from the last checkpoint with tuwen train --resume {shlex.quote(str(chosen.run.output))}")
        raise
    if not is_first():
        return None
    return _finish(chosen, outcome, as_json=as_json)


def _chosen(config: Path | None, overrides: Sequence[str], resume: Path | None) -> TrainConfig:
    """The file's configuration, or that of the run that is to go on, with what was said on top."""
    from tuwen.training.loop import CONFIG

    if (config is None) == (resume is None):
        raise InvalidInput("say what to train: -c FILE, or --resume FOLDER to go on with a run, not both")
    if resume is None:
        assert config is not None
        return read_config(config, overrides)
    if not (resume / CONFIG).is_file():
        raise InvalidInput(f"{resume} is the folder of no run: {CONFIG} is missing; begin one with -c FILE")
    return read_config(resume / CONFIG, [*overrides, f"run.output={json.dumps(str(resume))}"])


def _finish(config: TrainConfig, outcome: "Outcome", *, as_json: bool) -> int | None:
    """The bundle, the report, and what to say at the end."""
    from tuwen.training.distributed import is_launched

    bundle = _exported(config, outcome) if config.export.precisions else None
    page = _report(config, outcome, bundle)
    if bundle is not None and config.export.bench:
        _bench(bundle.folder)
    if as_json:
        emit(_document(outcome, bundle, page))
    else:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in outcome.figures.items())
        click.echo(f"{outcome.folder}: {outcome.steps:,} steps in {outcome.seconds:,.0f} s; {figures}".rstrip("; "))
        click.echo(f"best: step {outcome.best:,}; report: {page}" + (f"; bundle: {bundle.folder}" if bundle else ""))
    for key, reason in outcome.skipped.items():
        say(f"skipped: {key}: {reason}")
    return REJECTED if outcome.skipped and not is_launched() else None


def _exported(config: TrainConfig, outcome: "Outcome") -> Bundle:
    """The best checkpoint as a bundle, verified."""
    from tuwen.exporting.export import export_towers
    from tuwen.models.sources import load_source

    with proof.steps_shown():
        towers = load_source(str(outcome.folder / "best"))
        return export_towers(towers, outcome.folder / _BUNDLE, config.export.precisions)


def _bench(folder: Path) -> None:
    """`tuwen bench --quick`, told on standard error: standard output has one document."""
    with redirect_stdout(sys.stderr):
        click.get_current_context().invoke(bench, model=str(folder), quick=True)


def _report(config: TrainConfig, outcome: "Outcome", bundle: Bundle | None) -> Path:
    from tuwen.training.record import read_log, write_report

    facts = {
        "model": config.model.source,
        "steps": f"{outcome.steps:,}",
        "seconds": f"{outcome.seconds:,.0f}",
        "best step": f"{outcome.best:,}",
        "pairs skipped": len(outcome.skipped),
        **({} if bundle is None else {"bundle": f"{_BUNDLE}, fingerprint {bundle.manifest.fingerprint()}"}),
    }
    return write_report(
        outcome.folder, config.export.name or outcome.folder.resolve().name, read_log(outcome.folder), facts
    )


def _document(outcome: "Outcome", bundle: Bundle | None, page: Path) -> dict[str, Any]:
    return {
        "output": str(outcome.folder),
        "steps": outcome.steps,
        "best": outcome.best,
        "figures": outcome.figures,
        "seconds": outcome.seconds,
        "report": str(page),
        "bundle": None if bundle is None else str(bundle.folder),
        "fingerprint": None if bundle is None else bundle.manifest.fingerprint(),
        "checks": [] if bundle is None else proof.as_documents(bundle.manifest.verify.values()),
        "skipped": [{"key": key, "reason": reason} for key, reason in outcome.skipped.items()],
    }
