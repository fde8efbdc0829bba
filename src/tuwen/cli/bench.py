"""`tuwen bench`: throughput and latency of a model on this machine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from tuwen.bench.bench import FULL, QUICK, WORKLOADS, Benchmark, Request, Row, benchmark, draw, steps
from tuwen.bench.targets import Target, bundle_targets, converted_target
from tuwen.bench.workloads import material
from tuwen.bundle.bundle import Bundle
from tuwen.cli import options
from tuwen.cli.bundles import show_timings, timings_document
from tuwen.cli.command import Command, steps_shown
from tuwen.cli.console import emit, table
from tuwen.cli.options import Computing, as_set
from tuwen.errors import require
from tuwen.progress import Progress
from tuwen.runtime.loading import find_bundle
from tuwen.runtime.machine import cpu_name
from tuwen.runtime.measured import timings_of

PAUSE = 0.2
"""seconds between turns where PyTorch takes part: its threads spin for a while after their work is done"""


@click.command(
    cls=Command,
    examples=(
        "tuwen bench b32",
        "tuwen bench b32 --precision fp32,int8 --batch 1,32 --plot b32.png",
        "tuwen bench b32 --against torch --source openclip:ViT-B-32 --weights ./open_clip_pytorch_model.bin",
        "tuwen bench demo --quick",
    ),
)
@click.argument("model")
@click.option(
    "--runtime",
    "runtimes",
    type=options.Words(),
    default="",
    metavar="LIST",
    help="onnxruntime, openvino; all by default.",
)
@click.option(
    "--precision",
    "precisions",
    type=options.Words(),
    default="",
    metavar="LIST",
    help="fp32, bf16, fp16, int8; all by default.",
)
@click.option("--device", metavar="DEVICE", help="For example cpu, cuda:1, openvino:GPU; see tuwen doctor.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads for computing; all cores by default.")
@click.option(
    "--batch",
    "batches",
    type=options.Sizes(),
    default="1,4,8,16,32,64",
    show_default=True,
    metavar="LIST",
    help="Batch sizes.",
)
@click.option(
    "--workload",
    type=click.Choice(list(WORKLOADS)),
    default="all",
    show_default=True,
    help="Both towers by batch size, or five images and fifty captions from files to scores.",
)
@click.option("--quick", is_flag=True, help="Few rounds, for a first impression.")
@click.option(
    "--images",
    type=options.EXISTING,
    multiple=True,
    metavar="PATH",
    help="Images or folders of images to run on; repeatable. Synthetic ones by default.",
)
@click.option("--texts", type=options.FILE, metavar="FILE", help="Captions to run on, one per line.")
@click.option(
    "--converted",
    type=options.FOLDER,
    multiple=True,
    metavar="FOLDER",
    help="Also measure what tuwen convert wrote; repeatable.",
)
@click.option("--against", type=click.Choice(["torch"]), help="Measure PyTorch in the same rounds.")
@click.option(
    "--source", metavar="SOURCE", help="PyTorch's checkpoint, named as for tuwen export; the bundle's by default."
)
@click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, or the file of its weights.")
@click.option(
    "--seed", type=int, metavar="N", help="Draw random weights instead of reading a file (openclip: sources)."
)
@click.option("--plot", type=options.NEW_PLOT, metavar="FILE", help="Plot throughput over batch size (png, svg, pdf).")
@options.progress
@options.as_json
def bench(
    *,
    model: str,
    runtimes: tuple[str, ...],
    precisions: tuple[str, ...],
    device: str | None,
    threads: int | None,
    batches: tuple[int, ...],
    workload: str,
    quick: bool,
    images: Sequence[Path],
    texts: Path | None,
    converted: Sequence[Path],
    against: str | None,
    source: str | None,
    weights: Path | None,
    seed: int | None,
    plot: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Measure a model's throughput and latency on this machine.

    Every runtime and precision takes its turn in each round, so that other work on the machine affects all of them
    alike. Preparation (decoding, resizing, tokenising) and the model itself are timed apart. With --against torch,
    PyTorch takes part with as many threads.
    """
    for name, value in {"source": source, "weights": weights, "seed": seed}.items():
        if value is not None and against is None:
            raise click.UsageError(f"--{name} describes what --against compares with: add --against torch")
    given = as_set()
    computing = replace(given, device=device or given.device, threads=threads or given.cores)
    bundle = find_bundle(model, computing.settings.models, computing.settings.cache)
    effort = replace(QUICK if quick else FULL, pause=0.0 if against is None else PAUSE)
    with computing.measuring().telling():
        timings = timings_of(bundle, computing.choice, computing.settings.cache, measure=True, int8=True)
    request = Request(WORKLOADS[workload], batches, effort, material(images, texts))
    targets = _targets(bundle, computing, runtimes, precisions, converted)
    baselines = [] if against is None else _baselines(bundle, computing, source, weights, seed)
    with Progress(progress) as bar:
        bar.begin(steps(request, targets))
        found = benchmark(
            bundle,
            targets,
            request,
            threads=computing.cores,
            baselines=baselines,
            settings=computing.settings,
            on_step=bar.show,
        )
    if plot is not None:
        draw(found.rows, plot)
    if as_json:
        emit({**found.document(), "measured": timings_document(timings)})
    else:
        show(found)
        click.echo("\nmeasured once on this machine, and what auto takes")
        show_timings(timings)


def _targets(
    bundle: Bundle,
    computing: Computing,
    runtimes: Sequence[str],
    precisions: Sequence[str],
    converted: Sequence[Path],
) -> list[Target]:
    own = bundle_targets(
        bundle,
        runtimes=runtimes,
        precisions=precisions,
        device=computing.device,
        threads=computing.cores,
        cache=computing.settings.cache,
    )
    others = [converted_target(bundle, folder.absolute(), computing.cores) for folder in converted]
    names = [other.name for other in others]
    if len(set(names)) < len(names):
        raise click.UsageError(f"two folders of --converted have the same format ({', '.join(names)}): measure one")
    return own + others


def _baselines(
    bundle: Bundle, computing: Computing, source: str | None, weights: Path | None, seed: int | None
) -> list[Target]:
    require("torch", extra="export")
    from tuwen.exporting.torch_runtime import torch_baselines

    with steps_shown():
        return torch_baselines(
            bundle, computing.cores, source=source, weights=weights, seed=seed, settings=computing.settings
        )


def show(found: Benchmark) -> None:
    """Print tables: throughput, latency at the smallest batch, the job, cold starts."""
    click.echo(f"{found.bundle.manifest.name} on {cpu_name()}, threads: {found.threads}")
    for part, unit in (("image", "images/s"), ("text", "texts/s")):
        if rows := [row for row in found.rows if row.part == part]:
            click.echo()
            head = ("batch", "runtime", "in", unit, "ms", "prepare", "of max")
            _with_ratios(head, [_throughput(row) for row in rows], rows, (0, 3, 4, 5, 6))
    if towers := [row for row in found.rows if row.part != "five-fifty"]:
        least = min(row.batch for row in towers)
        click.echo(f"\nlatency at batch {least}, milliseconds")
        lines = [
            (row.part, row.runtime, row.precision, *map(_number, (row.p50_ms, row.p95_ms, row.p99_ms)))
            for row in towers
            if row.batch == least
        ]
        table(("of", "runtime", "in", "p50", "p95", "p99"), lines, numbers=(3, 4, 5))
    if jobs := [row for row in found.rows if row.part == "five-fifty"]:
        click.echo("\nfive images and fifty captions, from files to scores")
        lines = [(row.runtime, row.precision, _number(row.p50_ms), _number(row.prepare_ms)) for row in jobs]
        _with_ratios(("runtime", "in", "ms", "of it preparing"), lines, jobs, (2, 3))
    if found.starts:
        click.echo("\ncold start to first vectors, and peak memory")
        lines = [
            (it.runtime, it.precision, f"{it.seconds:.2f}", "" if it.peak_mib is None else f"{it.peak_mib:,.0f}")
            for it in found.starts
        ]
        table(("runtime", "in", "s", "MiB"), lines, numbers=(2, 3))
    best = ", ".join(f"{rate / 1e9:,.0f} in {name}" for name, rate in found.rates.items())
    click.echo(f"\nmatrix products alone, GFLOP/s at best: {best}" if best else "")


def _throughput(row: Row) -> tuple[str, ...]:
    share = "" if row.ceiling is None else f"{row.ceiling:.0%}"
    numbers = map(_number, (row.per_second, row.p50_ms, row.prepare_ms))
    return (str(row.batch), row.runtime, row.precision, *numbers, share)


def _with_ratios(
    head: Sequence[str], lines: Sequence[tuple[str, ...]], rows: Sequence[Row], numbers: Sequence[int]
) -> None:
    """A table with a column for each baseline that took part."""
    ratios = {"× torch": [row.times_torch for row in rows], "× cut": [row.times_torch_cut for row in rows]}
    shown = {name: values for name, values in ratios.items() if any(value is not None for value in values)}
    cells = zip(
        *([("" if value is None else f"{value:.2f}") for value in values] for values in shown.values()), strict=True
    )
    wide = [(*line, *more) for line, more in zip(lines, cells, strict=True)] if shown else lines
    table((*head, *shown), wide, numbers=(*numbers, *range(len(head), len(head) + len(shown))))


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
