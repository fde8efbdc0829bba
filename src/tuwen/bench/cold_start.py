"""How long a model takes to be ready, and how much memory it needs at most: in a process of its own.

    python -m tuwen.bench.cold_start MODEL MODELS CACHE CONVERTED RUNTIME DEVICE PRECISION THREADS BATCH

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
from tempfile import TemporaryFile

from tuwen.bench.targets import Contender
from tuwen.bench.workloads import captions, photo
from tuwen.bundle.converted import read_converted
from tuwen.bundle.manifest import TOWERS
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.converted import converted_encoder
from tuwen.runtime.loading import find_bundle, load_encoder
from tuwen.runtime.machine import peak_mib
from tuwen.runtime.selection import Choice


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


def start_of(contender: Contender, model: Path, places: tuple[Path, Path], threads: int, batch: int) -> Start:
    """Start a process that loads the model as the contender has it.

    Args:
        contender: who it is.
        model: the bundle's folder.
        places: the models' folder, and the cache.
        threads: for computing.
        batch: the largest.

    Raises:
        RuntimeUnavailable: it failed.
    """
    names = (contender.runtime, contender.device, contender.precision)
    words = (model, *places, contender.converted or "", *names, threads, batch)
    command = [sys.executable, "-P", "-m", "tuwen.bench.cold_start", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    begun = time.perf_counter()
    with (
        TemporaryFile() as errors,  # a pipe that nobody reads yet would hold up who says much before it is ready
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()  # it is ready
        seconds = time.perf_counter() - begun
        last, _ = child.communicate()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if child.returncode:
        reason = (said or [f"exit code {child.returncode}"])[-1]
        raise RuntimeUnavailable(f"{contender.name} cannot be started alone: {reason}")
    return Start(contender.runtime, contender.precision, contender.device, seconds, json.loads(last))


def main() -> None:
    """What the other process does: a line with its peak when it is ready, and another after the largest batch."""
    model, models, cache, converted, runtime, device, precision, threads, batch = sys.argv[1:]
    if converted:
        bundle = find_bundle(model, Path(models), Path(cache))
        found = read_converted(Path(converted), bundle)
        encoder, towers = converted_encoder(bundle, found, Path(converted), int(threads)), tuple(found.inputs)
    else:
        choice = Choice(runtime, device, precision, int(threads))
        encoder, towers = load_encoder(model, choice, models=Path(models), cache=Path(cache)), TOWERS
    picture = photo(0)
    for size in (1, int(batch)):
        if "vision" in towers:
            encoder.encode_images([picture] * size)
        if "text" in towers:
            encoder.encode_texts(captions(size, 0))
        print(json.dumps(peak_mib()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
