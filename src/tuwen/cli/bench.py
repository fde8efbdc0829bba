"""`tuwen bench`: how fast a model is on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuwen.cli import bench_torch, bench_words, options
from tuwen.cli.command import Command
from tuwen.cli.options import as_set
from tuwen.cli.output import emit
from tuwen.cli.progress import Progress

if TYPE_CHECKING:
    from tuwen.bundle.bundle import Bundle
    from tuwen.cli.options import Computing
    from tuwen.tasks.bench import Part, Request, Row
    from tuwen.tasks.contenders import Contender
    from tuwen.tasks.starts import Start


class Words(click.ParamType[tuple[str, ...]]):
    """Words with commas between them."""

    name = "list"

    def convert(self, value: object, param: object, ctx: object) -> tuple[str, ...]:  # noqa: ARG002
        """The words, each once."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(word.strip() for word in str(value).split(",") if word.strip()))


class Sizes(click.ParamType[tuple[int, ...]]):
    """Batch sizes with commas between them."""

    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, in order, each once; a usage error if one is none."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        if not all(word.isdecimal() and int(word) for word in words):
            self.fail(f"{value!r} are no batch sizes: write whole numbers from 1 on, e.g. 1,8,32", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found."""

    rows: "list[Row]"
    rates: dict[str, float]
    starts: "list[Start]"


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
    "--runtime", "runtimes", type=Words(), default="", metavar="LIST", help="onnxruntime, openvino; all by default."
)
@click.option(
    "--precision",
    "precisions",
    type=Words(),
    default="",
    metavar="LIST",
    help="fp32, bf16, fp16, int8; all by default.",
)
@click.option("--device", metavar="DEVICE", help="E.g. cpu, cuda:1, openvino:GPU; see tuwen doctor.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads for computing; all cores by default.")
@click.option(
    "--batch",
    "batches",
    type=Sizes(),
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
@bench_torch.against
@click.option(
    "--plot", type=options.NEW_PLOT, metavar="FILE", help="Draw throughput over batch size (png, svg, pdf)."
)
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
    rival: bench_torch.Rival | None,
    plot: Path | None,
    progress: str,
    as_json: bool,
) -> None:
    """Measure how fast a model is on this machine, in each runtime and precision.

    All contenders take turns, so that other work on the machine hits them alike. Preparing (decoding, resizing,
    tokenising) and the model itself are timed apart. With --against torch, PyTorch runs beside them with as many
    threads.
    """
    from tuwen.tasks.bench import FULL, QUICK, Request
    from tuwen.tasks.load import find_bundle
    from tuwen.tasks.workloads import material

    computing = _computing(device, threads)
    bundle = find_bundle(model, computing.settings.models, computing.settings.cache)
    effort = replace(QUICK if quick else FULL, pause=0.0 if rival is None else bench_torch.PAUSE)
    request = Request(_PARTS[workload], batches, effort, material(images, texts))
    taking_part = _contenders(bundle, computing, (runtimes, precisions), converted)
    outcome = _measured(request, bundle, computing, taking_part, rival, progress)
    _finish(bench_words.Facts(bundle, computing.cores, outcome.rates, outcome.starts), outcome.rows, plot, as_json)


def _computing(device: str | None, threads: int | None) -> "Computing":
    given = as_set()
    return replace(given, device=device or given.device, threads=threads or given.cores)


def _finish(facts: bench_words.Facts, rows: "list[Row]", plot: Path | None, as_json: bool) -> None:
    if plot is not None:
        from tuwen.tasks.curves import draw

        draw(rows, plot)
    if as_json:
        emit(bench_words.as_document(facts, rows))
    else:
        bench_words.show(facts, rows)


_PARTS: "dict[str, tuple[Part, ...]]" = {
    "all": ("image", "text", "five-fifty"),
    "towers": ("image", "text"),
    "five-fifty": ("five-fifty",),
}


def _contenders(
    bundle: "Bundle",
    computing: "Computing",
    named: tuple[tuple[str, ...], tuple[str, ...]],
    converted: Sequence[Path],
) -> "list[Contender]":
    from tuwen.tasks.contenders import Wanted, contender, converted_contender, plans

    runtimes, precisions = named
    wanted = Wanted(runtimes, precisions, computing.device, computing.cores)
    own = [contender(bundle, *found, computing.settings.cache) for found in plans(bundle, wanted)]
    others = [converted_contender(bundle, folder.absolute(), computing.cores) for folder in converted]
    names = [other.name for other in others]
    if len(set(names)) < len(names):
        raise click.UsageError(f"two of --converted are of one kind ({', '.join(names)}): measure them one by one")
    return own + others


def _measured(
    request: "Request",
    bundle: "Bundle",
    computing: "Computing",
    contenders: "Sequence[Contender]",
    rival: bench_torch.Rival | None,
    progress: str,
) -> Outcome:
    """Every case, then every start in a process of its own; a step of the bar for each."""
    from tuwen.tasks.bench import measure, rates
    from tuwen.tasks.operations import counted
    from tuwen.tasks.starts import start_of

    settings, folder, found = computing.settings, bundle.folder.absolute(), Outcome([], {}, [])
    rivals = [] if rival is None else bench_torch.contenders(rival, bundle, computing.cores)
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
