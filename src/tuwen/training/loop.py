"""The training loop: batches -> steps, with logs, evaluations and checkpoints at their intervals."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from tuwen.errors import Diverged, InvalidInput
from tuwen.models import trained
from tuwen.models.towers import Towers
from tuwen.training import checkpoint as random_state
from tuwen.training.checkpoint import BEST, SHARED, Checkpoints
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import dump_config
from tuwen.training.data import open_stream
from tuwen.training.distributed import from_all, from_first, joined, mean, rank, world
from tuwen.training.evaluate import Evaluation, score
from tuwen.training.model import beginning
from tuwen.training.objective import Batches
from tuwen.training.optimizer import planned, table
from tuwen.training.pairs import Part
from tuwen.training.record import Record
from tuwen.training.step import Stepper


class Pending:
    """The losses of steps since the last log, still on their device."""

    def __init__(self, epoch: float) -> None:
        """`epoch`: how many steps an epoch has."""
        self._epoch = epoch
        self._rows: list[dict[str, Tensor | float]] = []

    def add(self, row: dict[str, Tensor | float]) -> None:
        """Add the `loss`, `lr` and `scale` of a step."""
        self._rows.append(row)

    def fetch(self, step: int) -> list[dict[str, float]]:
        """A log line for each step up to `step`; losses are means over all processes, which must all call this."""
        rows, self._rows = self._rows, []
        losses = mean(torch.stack([torch.as_tensor(row["loss"]) for row in rows]).double()).tolist()
        scales = torch.stack([torch.as_tensor(row["scale"]) for row in rows]).tolist()
        numbers = range(step - len(rows) + 1, step + 1)
        return [
            {"step": number, "epoch": number / self._epoch, "loss": loss, "lr": float(row["lr"]), "scale": scale}
            for number, row, loss, scale in zip(numbers, rows, losses, scales, strict=True)
        ]


CONFIG = "config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        output: the run's folder.
        checkpoint: the folder of the best checkpoint, `output/best`: the last one, if nothing is evaluated.
        bundle: the folder of the exported bundle; None if none was exported, or in a process other than the first.
        report: the report in Markdown; None in a process other than the first.
        metrics: what the last evaluation measured, by name.
        steps: how many steps were taken.
        best_step: the step of the best checkpoint.
        seconds: of all steps, including those before an interruption.
        skipped: pairs that could not be read, in any process -> the reason.
    """

    output: Path
    checkpoint: Path
    bundle: Path | None = None
    report: Path | None = None
    metrics: dict[str, float]
    steps: int
    best_step: int
    seconds: float
    skipped: dict[str, str]


@dataclass(slots=True)
class _Progress:
    """The progress of a run; `figures` are the metrics of the step `measured`."""

    step: int = 0
    best: int | None = None
    score: float | None = None
    seconds: float = 0.0
    measured: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    def facts(self, pairs: int) -> dict[str, int | float]:
        """Facts about the run so far, at `pairs` a step, with the metrics if they are of this step."""
        figures = self.figures if self.measured == self.step else {}
        amount = {"steps": self.step, "pairs": self.step * pairs, "seconds": round(self.seconds)}
        return {**{f"trained_{name}": value for name, value in amount.items()}, **figures}


def fit(config: TrainConfig, say: Callable[[str], None], *, resume: bool = False) -> TrainResult:
    """Train, in this process or in all that torchrun started.

    Args:
        config: the configuration.
        say: called with each line about the progress, in the first process only.
        resume: whether to continue from the last checkpoint of `run.output`.

    Raises:
        InvalidInput: something that the configuration names cannot be used.
        Diverged: the loss or a weight is no longer finite.
        TuwenError: another process of the run ended.
    """
    with joined(config.run.device) as device:
        run = _Run(config, device, say if rank() == 0 else _silent)
        run.begin(resume=resume)
        return run.go()


class _Run:
    def __init__(self, config: TrainConfig, device: torch.device, say: Callable[[str], None]) -> None:
        random_state.seed(config.run.seed + rank())
        self._config, self._device, self._say = config, device, say
        self._output = config.run.output
        self._checkpoints = Checkpoints(self._output, config.run.keep_last)
        self._recipe, towers = beginning(config)
        self._stepper = Stepper(config, towers, device)
        self._stream = _stream(config, towers, self._stepper)
        self._schedule = planned(config, len(self._stream))
        self._evaluation = Evaluation(config.evaluate, config.run.precision, str(device))
        self._progress = _Progress()
        accumulate = config.optimizer.accumulate
        self._pending = Pending(len(self._stream) / accumulate)
        self._pairs = config.run.batch * world() * accumulate

    def begin(self, *, resume: bool) -> None:
        """Prepare the first step, or the one after the last checkpoint."""
        steps = self._checkpoints.steps()
        if steps and not resume:
            raise InvalidInput(
                f"{self._output} has the checkpoints of another run: resume it with --resume {self._output}, or choose "
                "another run.output",
                value=self._output,
                hint="resume that run, or choose another run.output",
            )
        if steps:
            self._load(steps[-1])
        elif resume:
            self._say(f"{self._output} has no checkpoint yet: starting at the first step")
        if rank() == 0:
            self._output.mkdir(parents=True, exist_ok=True)
            (self._output / CONFIG).write_text(dump_config(self._config), encoding="utf-8")
        for line in _described(self._stepper, self._config, self._schedule.steps, self._pairs, self._device):
            self._say(line)

    def go(self) -> TrainResult:
        """Take all remaining steps."""
        progress = self._progress
        start = monotonic() - progress.seconds
        with (
            closing(Record(self._output, self._schedule.steps, progress.step, self._say)) as record,
            closing(self._batches()) as batches,
        ):
            while progress.step < self._schedule.steps:
                taken = list(islice(batches, self._config.optimizer.accumulate))
                self._pending.add(self._stepper.step(taken, self._schedule, progress.step))
                progress.step += 1
                progress.seconds = monotonic() - start
                self._after_step(record)
        return TrainResult(
            output=self._output,
            checkpoint=self._output / BEST,
            steps=progress.step,
            best_step=progress.best or progress.step,
            metrics=progress.figures,
            seconds=progress.seconds,
            skipped=from_all(self._stream.skipped),
        )

    def _batches(self) -> Generator[Any, None, None]:
        """Batches of epoch after epoch."""
        while True:
            yield from self._stream

    def _after_step(self, record: Record) -> None:
        """Log, evaluate and save if due. Evaluation comes first: it decides which checkpoint is the best."""
        step, run, evaluate = self._progress.step, self._config.run, self._config.evaluate
        last = step == self._schedule.steps
        due_save = last or self._due(run.save_steps, run.save_epochs)
        due_measure = self._evaluation.wanted and (last or self._due(evaluate.steps, evaluate.epochs))
        if due_save or due_measure or step % run.log_every == 0:
            self._log(record)
        if due_measure:
            due_save |= self._measure(record)
        if due_save:
            self._save()
        if due_save or due_measure:
            record.resumed()

    def _due(self, steps: int | None, epochs: int | None) -> bool:
        """Whether an interval of steps or of epochs (by default one epoch) ends with this step."""
        every = steps or max(1, (epochs or 1) * len(self._stream) // self._config.optimizer.accumulate)
        return self._progress.step % every == 0

    def _log(self, record: Record) -> None:
        """Log the steps since the last log.

        Raises:
            Diverged: the loss of one of them is not finite.
        """
        rows = self._pending.fetch(self._progress.step)
        good = [row for row in rows if isfinite(row["loss"])]
        record.steps(good, self._pairs)
        if len(good) < len(rows):
            bad = next(row for row in rows if not isfinite(row["loss"]))
            raise _diverged(int(bad["step"]), self._checkpoints)

    def _measure(self, record: Record) -> bool:
        """Evaluate the towers; returns whether they are the best so far."""
        with self._stepper.in_use() as towers:
            figures = from_first(lambda: self._evaluation.measure(towers))
        self._progress.measured, self._progress.figures = self._progress.step, figures
        record.measured(self._progress.step, figures)
        found = score(figures)
        better = self._progress.score is None or found > self._progress.score
        if better:
            self._progress.best, self._progress.score = self._progress.step, found
        return better

    def _save(self) -> None:
        """Write a checkpoint.

        Raises:
            Diverged: a weight is not finite.
        """
        if not self._stepper.finite():
            raise _diverged(self._progress.step, self._checkpoints)
        shared = {"stepper": self._stepper.state(), "progress": asdict(self._progress)}
        own = {"stream": self._stream.state(), "random": random_state.everything(self._device)}
        with self._stepper.in_use() as towers:
            weights = {"vision": _copied(towers.vision), "text": _copied(towers.text)}
            facts, tokenizer = self._facts(towers), towers.tokenizer

        def write(folder: Path) -> None:
            torch.save(shared, folder / SHARED)
            trained.save(folder, facts, weights, tokenizer)

        self._checkpoints.save(self._progress.step, write, own, self._progress.best)

    def _load(self, step: int) -> None:
        shared, own = self._checkpoints.load(step)
        self._stepper.load_state(shared["stepper"])
        self._progress = _Progress(**shared["progress"])
        self._stream.load_state(own["stream"])
        random_state.restore(own["random"])
        self._say(f"resuming after step {step:,}")

    def _facts(self, towers: Towers) -> trained.Trained:
        """What a checkpoint records about its towers."""
        return trained.Trained(
            recipe=self._recipe,
            name=self._config.export.name or self._output.resolve().name,
            licence=self._config.export.licence or towers.licence,
            image=towers.image_spec,
            scoring=towers.scoring,
            definition=trained.definition_of(towers),
            facts={**towers.facts, **self._progress.facts(self._pairs)},
        )


def _stream(config: TrainConfig, towers: Towers, stepper: Stepper) -> Batches:
    """The batches of a run: of pairs, or of a custom objective."""
    if stepper.objective is not None:
        return stepper.objective.batches
    return open_stream(config, towers, Part(rank(), world()))


def _described(stepper: Stepper, config: TrainConfig, steps: int, pairs: int, device: torch.device) -> Iterator[str]:
    """Lines about what is trained, and for how long."""
    yield "tower    part        rate       decay  numbers"
    settings = config.optimizer
    for tower, part, rate, decay, numbers in table(stepper.groups, settings.lr, settings.weight_decay):
        yield f"{tower:8} {part:11} {rate:10} {decay:6} {numbers:>13}"
    yield f"{steps:,} steps of {pairs:,} pairs, on {world()} x {device}, {config.run.precision}"


def _diverged(step: int, checkpoints: Checkpoints) -> Diverged:
    kept = checkpoints.steps()
    good = f"the last good checkpoint is {checkpoints.at(kept[-1])}" if kept else "there is no checkpoint yet"
    return Diverged(
        f"step {step:,}: the loss or a weight is no longer finite; {good}. Lower optimizer.lr, lengthen the warm-up, "
        "set optimizer.clip=1.0, or use another run.precision, and resume: "
        f"--resume {checkpoints.output} -o optimizer.lr=…",
        value=step,
        where=checkpoints.output,
        hint="lower optimizer.lr, lengthen the warm-up, set optimizer.clip=1.0, or use another run.precision",
    )


def _copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _silent(line: str) -> None:
    """Ignores the lines of processes other than the first."""
