"""What every benchmark here needs: interleaved timing, this machine's ceiling, tables, JSON.

Rates of different programs are only comparable within one run: the contenders take turns, round by round, and a
ratio is the median of the rounds' own ratios.
"""

import json
import os
import platform
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

PAUSE = 0.2
"""Seconds between two contenders' turns: thread pools go on spinning for a while after their work is done."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender's call, round by round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def faster_than(self, other: "Timing") -> float:
        """How many times as fast as another contender of the same rounds."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.rounds, other.rounds, strict=True))


def take_turns(contenders: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, Timing]:
    """Time each contender once a round, after a round that is not counted. It is given the round's number."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, call in contenders.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            call(turn)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def timed(questions: Iterable[Asked], ask: Callable[[Asked], Answer]) -> tuple[list[float], list[Answer]]:
    """Every question's seconds and answer, one after the other."""
    seconds, answers = [], []
    for question in questions:
        start = time.perf_counter()
        answers.append(ask(question))
        seconds.append(time.perf_counter() - start)
    return seconds, answers


class Watched(AbstractContextManager["Watched"]):
    """What this process and its children take during a block: processor time, and private memory at its peak.

    Attributes:
        cpu_seconds: of processor time, of this process and of children that have ended.
        peak_mib: private memory, of this process beyond what it had before, and of its children.
    """

    EVERY = 0.1

    def __enter__(self) -> Self:
        self._before, self._cpu = _private_mib(os.getpid()), _cpu_seconds()
        self.peak_mib, self.cpu_seconds = 0.0, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.cpu_seconds = _cpu_seconds() - self._cpu

    def _watch(self) -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        while not self._done.wait(self.EVERY):
            memory = sum(_private_mib(int(child)) for child in children.read_text().split())
            self.peak_mib = max(self.peak_mib, memory + _private_mib(os.getpid()) - self._before)


def _cpu_seconds() -> float:
    return sum(
        it.ru_utime + it.ru_stime for it in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _private_mib(process: int) -> float:
    """Resident memory without mapped files; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


GEMM = (1600, 768, 3072)
"""m, k, n of the product that measures the machine: 32 pictures' 50 tokens through ViT-B/32's first MLP product."""
GEMM_TIMES = 4
GEMM_FLOPS = GEMM_TIMES * 2 * GEMM[0] * GEMM[1] * GEMM[2]
"""Floating-point operations of one call of what `gemm` gives."""


def gemm() -> Callable[[int], object]:
    """A contender that does nothing but fp32 matrix products: its best round is this machine's ceiling."""
    import torch

    m, k, n = GEMM
    a, b = torch.randn(m, k), torch.randn(k, n)
    return lambda _: [a @ b for _ in range(GEMM_TIMES)]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as aligned columns."""
    heads = list(rows[0])
    cells = [heads, *([_cell(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def machine(threads: int) -> dict[str, Any]:
    """Which processor, and how much of it."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.processor(), "threads": threads, "system": platform.platform()}


def finish(result: Mapping[str, Any], json_path: Path | None) -> None:
    """Print one JSON document as the last line, and write it where that is asked for."""
    document = json.dumps(result, ensure_ascii=False)
    print(document)
    if json_path is not None:
        json_path.write_text(document + "\n", encoding="utf-8")


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)
