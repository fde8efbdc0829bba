"""wrk, the load generator, with `load.lua`: run for a while, and what it measured."""

import json
import math
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """What is asked for, and how hard.

    Attributes:
        kind: one of those of `load.lua`.
        connections: requests at a time.
        seconds: how long.
        lines: a file with one row's id, or the path of a picture, a line.
        sample: one answer of so many is kept, to be checked.
        fields: JSON that `embed` and `picture` have before `input`.
    """

    kind: str
    connections: int
    seconds: float
    lines: Path
    sample: int = 10
    fields: str = ""


@dataclass(frozen=True)
class Measured:
    """What wrk says, and what it took itself.

    Attributes:
        requests: answers of any status.
        seconds: how long it went on.
        p50_ms: of answers of any status.
        p99_ms: likewise.
        statuses: how many answers of each status.
        broken: connections that could not be made, broke, or had no answer in time.
        cpu_share: of all cores' time, what wrk itself used.
        answers: the bodies that were kept.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]
    broken: int
    cpu_share: float
    answers: list[dict[str, Any]]

    @property
    def good(self) -> int:
        """Answers that are a success."""
        return self.statuses.get("200", 0)

    @property
    def good_per_second(self) -> float:
        """Successes in a second."""
        return self.good / self.seconds


def run(url: str, load: Load, folder: Path) -> Measured:
    """Load a service. `folder`: for what is handed over through files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    threads = 1 if load.connections < 64 else 2
    whole = f"{math.ceil(load.seconds)}s"  # it takes no fractions
    command = ["wrk", "-t", str(threads), "-c", str(load.connections), "-d", whole]
    command += ["--timeout", "60s", "--latency", "-s", str(SCRIPT), url, "--"]
    command += [load.kind, str(folder), str(load.lines), str(load.sample), str(time.time_ns() % 2**31), load.fields]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"wrk failed: {said}")
    share = (usage.ru_utime + usage.ru_stime) / (time.monotonic() - start) / (os.cpu_count() or 1)
    return _measured(folder, share)


def needed() -> str | None:
    """Why this cannot run here; None where it can."""
    return None if shutil.which("wrk") else "the load generator wrk is not here: apt install wrk"


def _measured(folder: Path, cpu_share: float) -> Measured:
    """What the script wrote."""
    found = json.loads((folder / "summary.json").read_text())
    kept = [line for file in folder.glob("answers-*.jsonl") for line in file.read_text("utf-8").splitlines()]
    return Measured(
        requests=found["requests"],
        seconds=found["microseconds"] / 1e6,
        p50_ms=found["p50"] / 1e3,
        p99_ms=found["p99"] / 1e3,
        statuses=found["statuses"],
        broken=found["broken"],
        cpu_share=cpu_share,
        answers=[json.loads(line) for line in kept],
    )
