"""What `export`, `pull` and `verify` share: samples, how far they have come, the bundle, the table of checks."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Check, Report
from tuwen.cli import options
from tuwen.cli.command import say
from tuwen.cli.console import table

_SAMPLES = (
    click.option(
        "--images",
        type=click.Path(exists=True, path_type=Path),
        multiple=True,
        metavar="PATH",
        help="Pictures, or a folder of them, to verify on; repeatable. Built-in ones by default.",
    ),
    click.option("--texts", type=options.FILE, metavar="FILE", help="Captions to verify on, one a line."),
)


def samples(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--images --texts`."""
    for option in reversed(_SAMPLES):
        command = option(command)
    return command


@contextmanager
def steps_shown() -> Iterator[None]:
    """Within the block, what tuwen's rooms log of their progress is printed to standard error."""
    log, handler = logging.getLogger("tuwen"), _Said()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def named(bundle: Bundle) -> dict[str, Any]:
    """What a bundle is, as JSON has it: where, of which model, in what precisions, how many numbers a vector."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.folder),
        "model": manifest.name,
        "fingerprint": manifest.fingerprint(),
        "precisions": list(bundle.precisions),
        "dim": manifest.dim,
    }


def as_documents(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Every check once, as JSON has it: what is not finite becomes null."""
    return [
        {name: None if value in (math.inf, -math.inf) else value for name, value in check.model_dump().items()}
        for check in _once(reports)
    ]


def show_checks(reports: Iterable[Report]) -> None:
    """Every check once, as a table: the worst cosine, the largest difference, how often the best texts agree."""
    head = ("stage", "runtime", "in", "cosine", "max diff", "top 1", "top 10", "")
    table(head, [_row(check) for check in _once(reports)], numbers=(3, 4, 5, 6))


def _once(reports: Iterable[Report]) -> list[Check]:
    """The checks of pixels and tokens are those of every precision."""
    return list(dict.fromkeys(check for report in reports for check in report.checks))


def _row(check: Check) -> tuple[str, ...]:
    cosine = "" if check.worst_cosine is None else f"{check.worst_cosine:.6f}"
    shares = ("" if share is None else f"{share:.1%}" for share in (check.top1, check.top10))
    verdict = "passed" if check.passed else "FAILED"
    return check.stage, check.runtime, check.precision, cosine, f"{check.max_abs:.1e}", *shares, verdict


class _Said(logging.Handler):
    """Prints each record as one line of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())
