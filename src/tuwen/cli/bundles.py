"""What the commands that make and check bundles share: options, progress, and the table of checks."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import click

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import PRECISIONS, Check, Precision, Report
from tuwen.cli import options
from tuwen.cli.command import say, steps_shown
from tuwen.cli.console import table
from tuwen.errors import InvalidInput
from tuwen.progress import Progress
from tuwen.runtime.measured import Timing, by_auto

MIB = 2**20

offline = click.option("--offline", is_flag=True, help="Do not ask the hub; also the setting TUWEN_OFFLINE.")


def samples(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--images --texts`."""
    images = click.option(
        "--images",
        type=options.EXISTING,
        multiple=True,
        metavar="PATH",
        help="Images or folders of images to verify on; repeatable. Built-in ones by default.",
    )
    texts = click.option("--texts", type=options.FILE, metavar="FILE", help="Captions to verify on, one per line.")
    return images(texts(command))


def listed(precisions: str) -> list[Precision]:
    """The precisions in a comma-separated list.

    Raises:
        InvalidInput: one of them is unknown.
    """
    words = [word.strip() for word in precisions.split(",")]
    if unknown := [word for word in words if word not in PRECISIONS]:
        names = ", ".join(map(repr, unknown))
        raise InvalidInput(f"Unknown precision {names}. Choose from: {', '.join(PRECISIONS)}", value=precisions)
    return cast("list[Precision]", words)


@contextmanager
def download_shown(name: str, progress: str = "auto") -> Iterator[Callable[[int, int], None]]:
    """A progress bar of a download; within the block, the function that moves it."""
    announced = 0
    with steps_shown(), Progress(progress) as bar:

        def show(done: int, total: int) -> None:
            nonlocal announced
            if announced != total:
                say(f"{name}: {total / MIB:,.1f} MiB")
                bar.begin(total // MIB)
                announced = total
            bar.show(done // MIB)

        yield show


def named(bundle: Bundle) -> dict[str, Any]:
    """A bundle as JSON: its folder, model, fingerprint, precisions and dimension."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.folder),
        "model": manifest.name,
        "fingerprint": manifest.fingerprint(),
        "precisions": list(bundle.precisions),
        "dim": manifest.dim,
    }


def checks_document(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Every check once, as JSON; infinity becomes null."""
    return [
        {name: None if value in (math.inf, -math.inf) else value for name, value in check.model_dump().items()}
        for check in _once(reports)
    ]


def show_checks(reports: Iterable[Report]) -> None:
    """Print every check once: the worst cosine, the largest difference, how often the best texts agree."""
    head = ("stage", "runtime", "in", "cosine", "max diff", "top 1", "top 10", "")
    table(head, [_row(check) for check in _once(reports)], numbers=(3, 4, 5, 6))


def show_timings(timings: Sequence[Timing]) -> None:
    """Print what was measured on this machine, and mark what `auto` takes."""
    head = ("of", "inputs", "runtime", "in", "threads", "a second", "cosine", "auto")
    table(head, [_timing_row(it, taken=taken) for it, taken in _taken(timings)], numbers=(4, 5, 6))


def timings_document(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "tower": it.tower,
            "inputs": it.size,
            "runtime": it.plan.runtime,
            "device": it.plan.device,
            "precision": it.plan.precision,
            "threads": it.plan.threads,
            "per_second": it.per_second,
            "cosine": it.cosine,
            "auto": taken,
        }
        for it, taken in _taken(timings)
    ]


def _taken(timings: Sequence[Timing]) -> list[tuple[Timing, bool]]:
    """Each timing, and whether `auto` takes its plan."""
    plans = by_auto(timings)
    return [(it, plans[it.tower, it.size] == it.plan) for it in timings]


def _timing_row(it: Timing, *, taken: bool) -> tuple[str, ...]:
    rate = "far slower" if it.per_second is None else f"{it.per_second:,.1f}"
    what, plan = "images" if it.tower == "vision" else "texts", it.plan
    cells = (what, it.size, plan.runtime, plan.precision, str(plan.threads), rate, f"{it.cosine:.6f}")
    return (*cells, "*" if taken else "")


def _once(reports: Iterable[Report]) -> list[Check]:
    """The checks of pixels and tokens are in the report of every precision."""
    return list(dict.fromkeys(check for report in reports for check in report.checks))


def _row(check: Check) -> tuple[str, ...]:
    cosine = "" if check.worst_cosine is None else f"{check.worst_cosine:.6f}"
    shares = ("" if share is None else f"{share:.1%}" for share in (check.top1, check.top10))
    verdict = "passed" if check.passed else "FAILED"
    return check.stage, check.runtime, check.precision, cosine, f"{check.max_abs:.1e}", *shares, verdict
