"""How long a process takes from its start to its first text vector: what a person waits for at the command line.

    python benchmarks/start.py --rounds 7 --json start.json
    python benchmarks/start.py --model b32/          # another bundle than ViT-B/32 at full size with random weights

Each contender is a process of its own, and they take turns. Cold: nothing is kept of earlier runs (the operating
system may have the files in memory). Warm: digests and compiled models are.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import finish, machine, table

RUNTIMES = ("openvino", "onnxruntime")
FIRST_VECTOR = """
import json, sys, time
start = time.perf_counter()
from pathlib import Path
from tuwen.runtime.loading import Choice, load_encoder
imported = time.perf_counter()
model, runtime, cache = sys.argv[1:]
encoder = load_encoder(model, Choice(runtime=runtime, threads=2), models=Path(), cache=Path(cache))
loaded = time.perf_counter()
encoder.encode_texts(["a dog on the grass"])
print(json.dumps({"import": imported - start, "load": loaded - imported, "vector": time.perf_counter() - loaded}))
"""


def main() -> None:
    arguments = parse()
    with bundle(arguments.model) as folder, tempfile.TemporaryDirectory() as caches:
        seen: dict[tuple[str, str], list[dict[str, float]]] = {}
        for turn in range(arguments.rounds):
            for runtime in RUNTIMES:
                for state in ("cold", "warm"):  # the second finds what the first left
                    cache = Path(caches) / f"{runtime}-{turn}"
                    seen.setdefault((runtime, state), []).append(one_process(folder, runtime, cache))
    rows = [
        {"runtime": runtime, "cache": state, **{part: median(runs, part) for part in runs[0]}}
        for (runtime, state), runs in seen.items()
    ]
    print(table(rows))
    finish({"machine": machine(2), "rounds": arguments.rounds, "rows": rows}, arguments.json)


def one_process(folder: Path, runtime: str, cache: Path) -> dict[str, float]:
    """Seconds from start to end, and of each part as the process itself saw it."""
    start = time.perf_counter()
    command = [sys.executable, "-c", FIRST_VECTOR, str(folder), runtime, str(cache)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts: dict[str, float] = json.loads(output)
    return {"total": time.perf_counter() - start, **parts}


def median(runs: list[dict[str, float]], part: str) -> float:
    return statistics.median(run[part] for run in runs)


@contextmanager
def bundle(model: Path | None) -> Iterator[Path]:
    if model is not None:
        yield model
        return
    from tuwen.exporting.export import export_towers
    from tuwen.models.openclip import load

    with tempfile.TemporaryDirectory() as folder:
        yield export_towers(load("ViT-B-32"), Path(folder) / "bundle").folder


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a bundle's folder")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender takes its turn")
    parser.add_argument("--json", type=Path, help="also write the result here")
    result: argparse.Namespace = parser.parse_args()
    return result


if __name__ == "__main__":
    main()
