"""How long a model takes to be ready, and how much memory it needs at most: in a process of its own.

    python -m tuwen.tasks.starts MODEL MODELS CACHE RUNTIME DEVICE PRECISION THREADS BATCH

Its time runs from the process' start to the first picture's and the first text's vectors. Knows processes; does not
know what else a benchmark measures.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.machine import peak_mib
from tuwen.runtime.plan import Choice
from tuwen.tasks.load import load_encoder
from tuwen.tasks.workloads import captions, photo


@dataclass(frozen=True, slots=True)
class Start:
    """What one contender needs to begin.

    Attributes:
        runtime: the contender's.
        precision: likewise.
        device: likewise.
        seconds: from nothing to the first vectors of both towers; what was compiled before is in the cache.
        peak_mib: the most memory resident, once the largest batches have been through; None where the system does
            not say.
    """

    runtime: str
    precision: str
    device: str
    seconds: float
    peak_mib: float | None


def start_of(model: str, choice: Choice, places: tuple[Path, Path], batch: int) -> Start:
    """Start a process that loads the model as chosen.

    Args:
        model: a bundle's folder.
        choice: what computes; nothing is left to it.
        places: the models' folder, and the cache.
        batch: the largest.

    Raises:
        RuntimeUnavailable: it failed.
    """
    words = (model, *places, choice.runtime, choice.device, choice.precision, choice.threads, batch)
    command = [sys.executable, "-P", "-m", "tuwen.tasks.starts", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    begun = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()  # it is ready
        seconds = time.perf_counter() - begun
        last, said = child.communicate()
    if child.returncode:
        reason = (said.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise RuntimeUnavailable(f"{choice.runtime} in {choice.precision} cannot be started alone: {reason}")
    return Start(choice.runtime, choice.precision, choice.device, seconds, json.loads(last))


def main() -> None:
    """What the other process does: a line when it is ready, and a line with its peak."""
    model, models, cache, runtime, device, precision, threads, batch = sys.argv[1:]
    choice = Choice(runtime, device, precision, int(threads))
    encoder = load_encoder(model, choice, models=Path(models), cache=Path(cache))
    picture = photo(0)
    encoder.encode_images([picture])
    encoder.encode_texts(captions(1, 0))
    print("ready", flush=True)  # noqa: T201
    encoder.encode_images([picture] * int(batch))
    encoder.encode_texts(captions(int(batch), 0))
    print(json.dumps(peak_mib()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
