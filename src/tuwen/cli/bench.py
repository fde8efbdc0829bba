"""`tuwen bench`: how fast a model is on this machine."""

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuwen.bench.bench import FULL, QUICK, TORCH, TORCH_CUT, Part, Request, Row, draw, measure, rates
from tuwen.bench.cold_start import Start, start_of
from tuwen.bench.operations import counted
from tuwen.bench.targets import Contender, Wanted, contender, converted_contender, opened_plainly, plans
from tuwen.bench.workloads import material
from tuwen.bundle.bundle import Bundle
from tuwen.cli import options
from tuwen.cli.command import Command, say
from tuwen.cli.console import Progress, emit, table
from tuwen.cli.options import Computing, as_set
from tuwen.errors import InvalidInput, require
from tuwen.exporting.sources import checkpoint_of, named_here
from tuwen.runtime.loading import find_bundle
from tuwen.runtime.machine import cpu_name
from tuwen.types import Pixels, Tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuwen.models.session import TorchSession
    from tuwen.models.towers import Towers


# ---- The rival of a benchmark

F = TypeVar("F", bound=Callable[..., Any])

PAUSE = 0.2
"""Seconds between two turns where PyTorch takes part: its threads go on spinning after their work is done."""


@dataclass(frozen=True, slots=True)
class Rival:
    """The checkpoint to be compared with.

    Attributes:
        source: named as for `tuwen export`; None: as the bundle's manifest has it.
        weights: itself, or the file of its weights.
        seed: of random weights in place of a file (openclip).
    """

    source: str | None
    weights: Path | None
    seed: int | None


def against(command: F) -> F:
    """Add `--against --source --weights --seed`; `command` gets one `rival`, None where nothing is compared."""

    @wraps(command)
    def with_rival(**words: Any) -> object:  # noqa: ANN401
        asked, given = words.pop("against"), {name: words.pop(name) for name in ("source", "weights", "seed")}
        named = [name for name, value in given.items() if value is not None]
        if named and asked is None:
            raise click.UsageError(f"--{named[0]} is about what --against compares with: add --against torch")
        return command(rival=None if asked is None else Rival(**given), **words)

    for option in reversed(_AGAINST):
        with_rival = option(with_rival)
    return with_rival  # type: ignore[return-value]


def torch_contenders(rival: Rival, bundle: Bundle, threads: int) -> list[Contender]:
    """PyTorch in fp32: with texts padded to the context length as its libraries do, and to the batch's longest.

    The latter only where the bundle's manifest says that it changes nothing.

    Raises:
        MissingExtra: torch is not installed.
        InvalidInput: the checkpoint cannot be loaded, or its weights are not said.
    """
    require("torch", extra="export")
    from tuwen.models.session import torch_session

    towers = _towers(rival, bundle)
    if towers.weights_sha256() != bundle.manifest.weights_sha256:
        say("note: these are not the weights that the bundle was made from; only speed is compared")
    vision = torch_session(towers, "vision", threads=threads)
    text = torch_session(towers, "text", threads=threads)
    whole = _contender(towers, vision, text)
    cut = replace(whole, runtime=TORCH_CUT, texts=lambda tokens: _run(text, tokens, int(tokens.lengths.max())))
    return [replace(whole, runtime=TORCH), *([cut] if bundle.manifest.text.cut_exact else [])]


def _contender(towers: "Towers", vision: "TorchSession", text: "TorchSession") -> Contender:

    def to_pixels(files: Sequence[bytes]) -> Pixels:
        return towers.to_pixels(opened_plainly(files))

    def images(pixels: Pixels) -> "NDArray[np.float32]":
        return vision.run({vision.inputs[0].name: pixels})

    def texts(tokens: Tokens) -> "NDArray[np.float32]":
        return _run(text, tokens, tokens.ids.shape[1])

    return Contender("torch", "fp32", vision.device, to_pixels, towers.to_tokens, images, texts)


def _run(text: "TorchSession", tokens: Tokens, width: int) -> "NDArray[np.float32]":
    import numpy as np

    mask = (np.arange(width) < tokens.lengths[:, None]).astype(np.int64)
    feeds: Mapping[str, NDArray[np.int64]] = {"input_ids": tokens.ids[:, :width], "attention_mask": mask}
    return text.run({port.name: np.ascontiguousarray(feeds[port.name]) for port in text.inputs})


def _towers(rival: Rival, bundle: Bundle) -> "Towers":
    from tuwen.models.sources import load_source

    source, seed = rival.source or bundle.manifest.source, rival.seed
    if rival.weights is None and rival.source is None and seed is None:
        drawn = re.search(r"/random-(\d+)$", bundle.manifest.source)
        seed = None if drawn is None else int(drawn[1])
    if seed is None:
        settings = options.read_settings()
        named = None if rival.source is None else named_here(rival.source, rival.weights, settings)
        found = named or checkpoint_of(bundle.manifest, rival.weights, settings)
        return load_source(found.source, found.weights)
    kind, _, name = source.partition(":")
    if kind != "openclip" or rival.weights is not None:
        raise InvalidInput(f"--seed is for random weights of an openclip: architecture, not for {source}: leave it out")
    from tuwen.models import openclip

    return openclip.load(name.partition("/")[0], seed=seed)


_AGAINST = (
    click.option("--against", type=click.Choice(["torch"]), help="Run PyTorch beside them, in the same rounds."),
    click.option(
        "--source", metavar="SOURCE", help="Its checkpoint, named as for tuwen export; else the bundle's own."
    ),
    click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, or its weights' file."),
    click.option("--seed", type=int, metavar="N", help="Random weights in place of a file (openclip: sources)."),
)


# ---- What `tuwen bench` found, as tables for a terminal and as JSON. Measures nothing.


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found besides the rows.

    Attributes:
        bundle: the model.
        threads: for computing.
        rates: this machine's best, in operations a second, by precision.
        starts: what each contender needs to begin.
    """

    bundle: Bundle
    threads: int
    rates: Mapping[str, float]
    starts: Sequence[Start]


def as_document(facts: Facts, rows: Sequence[Row]) -> dict[str, Any]:
    """As `docs/en/json.md` has it."""
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


def show(facts: Facts, rows: Sequence[Row]) -> None:
    """Tables: throughput, latency at the smallest batch, the job, what it takes to begin."""
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


def _throughput(rows: Sequence[Row], heading: str, facts: Facts) -> None:
    """A line for each batch and contender; `of max`: the share of the best rate of matrix products."""
    head = ("batch", "runtime", "in", heading, "ms", "prepare", "of max")
    _shown(head, [_line(row, facts) for row in rows], rows, places=(0, 3, 4, 5, 6))


def _latency(rows: Sequence[Row]) -> None:
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


def _shown(head: Sequence[str], lines: Sequence[tuple[str, ...]], rows: Sequence[Row], places: tuple[int, ...]) -> None:
    """With a column for each rival, if there is one: how many times as fast the others are."""
    ratios = {"× torch": [row.times_torch for row in rows], "× cut": [row.times_torch_cut for row in rows]}
    named = {name: values for name, values in ratios.items() if any(value is not None for value in values)}
    wide = [
        (*line, *("" if values[place] is None else f"{values[place]:.2f}" for values in named.values()))
        for place, line in enumerate(lines)
    ]
    table((*head, *named), wide, numbers=(*places, *range(len(head), len(head) + len(named))))


def _line(row: Row, facts: Facts) -> tuple[str, ...]:
    share = row.ceiling(facts.rates)
    return (
        str(row.batch),
        row.runtime,
        row.precision,
        _number(row.per_second),
        *(_number(timing.median * 1000) for timing in (row.model, row.prepare)),
        "" if share is None else f"{share:.0%}",
    )


def _job(row: Row) -> tuple[str, ...]:
    return row.runtime, row.precision, _number(row.model.median * 1000), _number(row.prepare.median * 1000)


def _as_item(row: Row, facts: Facts) -> dict[str, Any]:
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


def _is_torch(row: Row) -> bool:

    return row.runtime in (TORCH, TORCH_CUT)


def _number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


# ---- `tuwen bench`: how fast a model is on this machine.


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found."""

    rows: list[Row]
    rates: dict[str, float]
    starts: list[Start]


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
@click.option("--device", metavar="DEVICE", help="E.g. cpu, cuda:1, openvino:GPU; see tuwen doctor.")
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
    type=click.Choice(["all", "towers", "five-fifty"]),
    default="all",
    show_default=True,
    help="Both towers by batch size; or five pictures and fifty captions, from files to scores.",
)
@click.option("--quick", is_flag=True, help="Few rounds: a first impression.")
@click.option(
    "--images",
    type=options.EXISTING,
    multiple=True,
    metavar="PATH",
    help="Pictures, or a folder of them, to work on; repeatable. Made ones by default.",
)
@click.option("--texts", type=options.FILE, metavar="FILE", help="Captions to work on, one a line.")
@click.option(
    "--converted",
    type=options.FOLDER,
    multiple=True,
    metavar="FOLDER",
    help="What tuwen convert wrote of it, beside the others; repeatable.",
)
@against
@click.option("--plot", type=options.NEW_PLOT, metavar="FILE", help="Draw throughput over batch size (png, svg, pdf).")
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
    rival: Rival | None,
    plot: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Measure a model's throughput and latency on this machine.

    All contenders take turns, so that other work on the machine hits them alike. Preparing (decoding, resizing,
    tokenising) and the model itself are timed apart. With --against torch, PyTorch runs beside them with as many
    threads.
    """
    computing = _computing(device, threads)
    bundle = find_bundle(model, computing.settings.models, computing.settings.cache)
    effort = replace(QUICK if quick else FULL, pause=0.0 if rival is None else PAUSE)
    request = Request(_PARTS[workload], batches, effort, material(images, texts))
    taking_part = _contenders(bundle, computing, (runtimes, precisions), converted)
    outcome = _measured(request, bundle, computing, taking_part, rival, progress)
    _finish(Facts(bundle, computing.cores, outcome.rates, outcome.starts), outcome.rows, plot, as_json)


def _computing(device: str | None, threads: int | None) -> Computing:
    given = as_set()
    return replace(given, device=device or given.device, threads=threads or given.cores)


def _finish(facts: Facts, rows: list[Row], plot: Path | None, as_json: bool) -> None:
    if plot is not None:
        draw(rows, plot)
    if as_json:
        emit(as_document(facts, rows))
    else:
        show(facts, rows)


_PARTS: dict[str, tuple[Part, ...]] = {
    "all": ("image", "text", "five-fifty"),
    "towers": ("image", "text"),
    "five-fifty": ("five-fifty",),
}


def _contenders(
    bundle: Bundle,
    computing: Computing,
    named: tuple[tuple[str, ...], tuple[str, ...]],
    converted: Sequence[Path],
) -> list[Contender]:

    runtimes, precisions = named
    wanted = Wanted(runtimes, precisions, computing.device, computing.cores)
    own = [contender(bundle, *found, computing.settings.cache) for found in plans(bundle, wanted)]
    others = [converted_contender(bundle, folder.absolute(), computing.cores) for folder in converted]
    names = [other.name for other in others]
    if len(set(names)) < len(names):
        raise click.UsageError(f"two of --converted are of one kind ({', '.join(names)}): measure them one by one")
    return own + others


def _measured(
    request: Request,
    bundle: Bundle,
    computing: Computing,
    contenders: Sequence[Contender],
    rival: Rival | None,
    progress: str,
) -> Outcome:
    """Every case, then every start in a process of its own; a step of the bar for each."""
    settings, folder, found = computing.settings, bundle.folder.absolute(), Outcome([], {}, [])
    rivals = [] if rival is None else torch_contenders(rival, bundle, computing.cores)
    with Progress(progress) as shown:
        shown.begin(len(request.cases()) + 1 + len(contenders))
        precisions = list(dict.fromkeys(contender.precision for contender in contenders))
        before = rates(precisions, computing.cores, request.effort)
        shown.show(1)
        for done, rows in enumerate(measure(request, [*contenders, *rivals], counted(bundle)), start=2):
            found.rows.extend(rows)
            shown.show(done)
        after = rates(precisions, computing.cores, request.effort)
        found.rates.update({name: max(before[name], rate) for name, rate in after.items()})
        for done, contender in enumerate(contenders, start=len(request.cases()) + 2):
            places = (settings.models, settings.cache)
            start = start_of(contender, folder, places, computing.cores, max(request.batches))
            found.starts.append(start)
            shown.show(done)
    return found
