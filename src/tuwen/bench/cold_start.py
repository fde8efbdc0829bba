"""The time from process start to the first vectors, and peak memory, each measured in a process of its own.

python -m tuwen.bench.cold_start ARGUMENTS_AS_JSON
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from tuwen.bench.targets import Target
from tuwen.bench.workloads import captions, photo
from tuwen.bundle.converted import read_converted
from tuwen.bundle.manifest import TOWERS
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.converted import converted_encoder
from tuwen.runtime.loading import find_bundle, load_encoder
from tuwen.runtime.machine import peak_mib
from tuwen.runtime.selection import Choice
from tuwen.settings import Settings


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What one target takes to start.

    Attributes:
        runtime, precision, device: the target's.
        seconds: from process start to the first vectors of both towers, with what was compiled before in the cache.
        peak_mib: peak resident memory, after the largest batches; None where the system does not report it.
    """

    runtime: str
    precision: str
    device: str
    seconds: float
    peak_mib: float | None


def cold_start(target: Target, model: Path, settings: Settings, threads: int, batch: int) -> ColdStart:
    """Start a process that loads the model as the target does and encodes a batch of 1, then the largest.

    Args:
        target: what to load.
        model: the bundle's folder.
        settings: where models and compiled models are kept.
        threads: for computing.
        batch: the largest batch.

    Raises:
        RuntimeUnavailable: the process failed.
    """
    arguments = {
        "model": str(model),
        "models": str(settings.models),
        "cache": str(settings.cache),
        "converted": None if target.converted is None else str(target.converted),
        "choice": (target.runtime, target.device, target.precision, threads),
        "batch": batch,
    }
    command = [sys.executable, "-P", "-m", "tuwen.bench.cold_start", json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    start = time.perf_counter()
    with (
        TemporaryFile() as errors,  # a pipe that is not read could block a process that logs a lot
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()  # the first vectors are there
        seconds = time.perf_counter() - start
        last, _ = child.communicate()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    if child.returncode:
        reason = (lines or [f"exit code {child.returncode}"])[-1]
        raise RuntimeUnavailable(f"{target.name} failed in a process of its own: {reason}", value=target.name)
    return ColdStart(target.runtime, target.precision, target.device, seconds, json.loads(last))


def main() -> None:
    """The other process: print peak memory after the first vectors, and again after the largest batch."""
    given = json.loads(sys.argv[1])
    models, cache, (*_, threads) = Path(given["models"]), Path(given["cache"]), given["choice"]
    if given["converted"]:
        bundle, folder = find_bundle(given["model"], models, cache), Path(given["converted"])
        converted = read_converted(folder, bundle)
        encoder, towers = converted_encoder(bundle, converted, folder, threads), tuple(converted.inputs)
    else:
        choice = Choice(*given["choice"])
        encoder, towers = load_encoder(given["model"], choice, models=models, cache=cache), TOWERS
    image = photo(0)
    for size in (1, given["batch"]):
        if "vision" in towers:
            encoder.encode_images([image] * size)
        if "text" in towers:
            encoder.encode_texts(captions(size, 0))
        print(json.dumps(peak_mib()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
