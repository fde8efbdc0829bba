"""What `tuwen bench` found, as tables for a terminal and as JSON. Measures nothing."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from tuwen.cli.output import table

if TYPE_CHECKING:
    from tuwen.bundle.bundle import Bundle
    from tuwen.tasks.bench import Row
    from tuwen.tasks.starts import Start


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found besides the rows.

    Attributes:
        bundle: the model.
        threads: for computing.
        rates: this machine's best, in operations a second, by precision.
        starts: what each contender needs to begin.
    """

    bundle: "Bundle"
    threads: int
    rates: Mapping[str, float]
    starts: "Sequence[Start]"


def as_document(facts: Facts, rows: "Sequence[Row]") -> dict[str, Any]:
    """As `docs/en/json.md` has it."""
    from tuwen.runtime.machine import cpu_name

    ours = [row for row in rows if not _is_torch(row)]
    gemm = [{"precision": name, "gflops": rate / 1e9} for name, rate in facts.rates.items()]
    return {
        "bundle": str(facts.bundle.folder),
        "model": facts.bundle.manifest.name,
        "machine": {"cpu": cpu_name(), "system": platform.platform(), "threads": facts.threads, "gemm": gemm},
        "image": [_as_item(row, facts) for row in ours if row.part == "image"],
        "text": [_as_item(row, facts) for row in ours if row.part == "text"],
        "jobs": [{"job": row.part, **_as_item(row, facts)} for row in ours if row.part == "five-fifty"],
        "starts": [asdict(start) for start in facts.starts],
        "against": [{"part": row.part, **_as_item(row, facts)} for row in rows if _is_torch(row)],
    }


def show(facts: Facts, rows: "Sequence[Row]") -> None:
    """Tables: throughput, latency at the smallest batch, the job, what it takes to begin."""
    from tuwen.runtime.machine import cpu_name

    manifest = facts.bundle.manifest
    click.echo(f"{manifest.name} on {cpu_name()}, threads: {facts.threads}")
    for part, heading in (("image", "images/s"), ("text", "texts/s")):
        chosen = [row for row in rows if row.part == part]
        if chosen:
            click.echo()
            _throughput(chosen, heading, facts)
    towers = [row for row in rows if row.part != "five-fifty"]
    if towers:
        _latency(towers)
    jobs = [row for row in rows if row.part == "five-fifty"]
    if jobs:
        click.echo("\nfive pictures and fifty captions, from files to scores")
        head, columns = ("runtime", "in", "ms", "of it preparing"), [_job(row) for row in jobs]
        _shown(head, columns, jobs, places=(2, 3))
    if facts.starts:
        click.echo("\nfrom nothing to the first vectors, and memory at the most")
        begun = [(it.runtime, it.precision, f"{it.seconds:.2f}", _mib(it.peak_mib)) for it in facts.starts]
        table(("runtime", "in", "s", "MiB"), begun, numbers=(2, 3))
    best = ", ".join(f"{rate / 1e9:,.0f} in {name}" for name, rate in facts.rates.items())
    click.echo(f"\nmatrix products alone, GFLOP/s at best: {best}" if best else "")


def _throughput(rows: "Sequence[Row]", heading: str, facts: Facts) -> None:
    """A line for each batch and contender; `of max`: the share of the best rate of matrix products."""
    head = ("batch", "runtime", "in", heading, "ms", "prepare", "of max")
    _shown(head, [_line(row, facts) for row in rows], rows, places=(0, 3, 4, 5, 6))


def _latency(rows: "Sequence[Row]") -> None:
    """At the smallest batch."""
    least = min(row.batch for row in rows)
    click.echo(f"\nlatency at batch {least}, milliseconds")
    lines = [
        (
            row.part,
            row.runtime,
            row.precision,
            *(_number(row.model.percentile(share) * 1000) for share in (50, 95, 99)),
        )
        for row in rows
        if row.batch == least
    ]
    table(("of", "runtime", "in", "p50", "p95", "p99"), lines, numbers=(3, 4, 5))


def _shown(
    head: Sequence[str], lines: Sequence[tuple[str, ...]], rows: "Sequence[Row]", places: tuple[int, ...]
) -> None:
    """With a column for each rival, if there is one: how many times as fast the others are."""
    ratios = {"× torch": [row.times_torch for row in rows], "× cut": [row.times_torch_cut for row in rows]}
    named = {name: values for name, values in ratios.items() if any(value is not None for value in values)}
    wide = [
        (*line, *("" if values[place] is None else f"{values[place]:.2f}" for values in named.values()))
        for place, line in enumerate(lines)
    ]
    table((*head, *named), wide, numbers=(*places, *range(len(head), len(head) + len(named))))


def _line(row: "Row", facts: Facts) -> tuple[str, ...]:
    share = row.ceiling(facts.rates)
    return (
        str(row.batch),
        row.runtime,
        row.precision,
        _number(row.per_second),
        *(_number(timing.median * 1000) for timing in (row.model, row.prepare)),
        "" if share is None else f"{share:.0%}",
    )


def _job(row: "Row") -> tuple[str, ...]:
    return row.runtime, row.precision, _number(row.model.median * 1000), _number(row.prepare.median * 1000)


def _as_item(row: "Row", facts: Facts) -> dict[str, Any]:
    p50, p95, p99 = (row.model.percentile(percent) * 1000 for percent in (50, 95, 99))
    return {
        "batch": row.batch,
        "runtime": row.runtime,
        "precision": row.precision,
        "device": row.device,
        "per_second": row.per_second,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "prepare_ms": row.prepare.median * 1000,
        "rounds": len(row.model.seconds),
        "ceiling": row.ceiling(facts.rates),
        "times_torch": row.times_torch,
        "times_torch_cut": row.times_torch_cut,
    }


def _is_torch(row: "Row") -> bool:
    from tuwen.tasks.bench import TORCH, TORCH_CUT

    return row.runtime in (TORCH, TORCH_CUT)


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
