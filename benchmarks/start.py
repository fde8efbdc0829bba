"""What a person waits for at the command line: a search that starts a process, its help, and a first text vector.

    python benchmarks/start.py --rounds 7 --json start.json
    python benchmarks/start.py --model photo         # another model than ViT-B/32 at full size with random weights

Each contender is a process of its own, and they take turns. Cold: nothing is kept of earlier runs (the operating
system may have the files in memory). Warm: digests and compiled models are. `times the floor` compares each with a
process that only imports onnxruntime, by the processor time of both in the same round: other work on the machine
makes a process wait, and changes its processor time less.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measuring import finish, machine, table

from tuwen.runtime.loading import portable_name

RUNTIMES = ("openvino", "onnxruntime")
FLOOR = "import onnxruntime"
FIRST_VECTOR = """
import sys
from pathlib import Path
from tuwen.runtime.loading import Choice, load_encoder
model, runtime, cache = sys.argv[1:]
encoder = load_encoder(model, Choice(runtime=runtime, threads=2), models=Path(), cache=Path(cache))
encoder.encode_texts(["a dog on the grass"])
"""
TUWEN = (sys.executable, "-m", "tuwen")


@dataclass(frozen=True)
class Taken:
    """Seconds of one process: by the clock, and of processor time in it and its children."""

    wall: float
    processor: float


def main() -> None:
    arguments = parse()
    with bundle(arguments.model) as model, tempfile.TemporaryDirectory() as place:
        commands = contenders(model, Path(place), arguments.rows)
        seen: dict[str, list[Taken]] = {FLOOR: []}
        for turn in range(arguments.rounds):
            seen[FLOOR].append(process((sys.executable, "-c", FLOOR)))
            for name, command in commands.items():
                seen.setdefault(name, []).append(process(command, Path(place) / "cache"))
            cold = process(commands["tuwen search"], Path(place) / f"search-{turn}")
            seen.setdefault("tuwen search, cold", []).append(cold)
            for runtime in RUNTIMES:
                cache = Path(place) / f"{runtime}-{turn}"
                for state in ("cold", "warm"):  # the second finds what the first left
                    command = (sys.executable, "-c", FIRST_VECTOR, model, runtime, str(cache))
                    seen.setdefault(f"first vector, {runtime}, {state}", []).append(process(command))
    rows = [row(name, taken, seen[FLOOR]) for name, taken in seen.items()]
    print(table(rows))
    finish({"machine": machine(2), "rounds": arguments.rounds, "rows": rows}, arguments.json)


def contenders(model: str, place: Path, rows: int) -> Mapping[str, Sequence[str]]:
    """Commands, warm: the index is built and what a search needs has been kept."""
    texts, index = place / "texts.txt", place / "texts.tuwen"
    texts.write_text("\n".join(f"a picture of number {number}" for number in range(rows)) + "\n", encoding="utf-8")
    build = ("index", "build", str(texts), "--texts", "--index", str(index), "--model", model)
    search = (*TUWEN, "search", "a dog on the grass", "--index", str(index))
    process((*TUWEN, *build), place / "cache")
    process(search, place / "cache")
    return {"tuwen search": search, "tuwen --help": (*TUWEN, "--help")}


def process(command: Sequence[str], cache: Path | None = None) -> Taken:
    """Run a command to its end."""
    environment = dict(os.environ) if cache is None else {**os.environ, "TUWEN_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def row(name: str, taken: Sequence[Taken], floor: Sequence[Taken]) -> dict[str, object]:
    return {
        "starts": name,
        "seconds": statistics.median(it.wall for it in taken),
        "of processor": statistics.median(it.processor for it in taken),
        "times the floor": statistics.median(
            it.processor / least.processor for it, least in zip(taken, floor, strict=True)
        ),
    }


@contextmanager
def bundle(model: str | None) -> Iterator[str]:
    if model is not None:
        yield portable_name(model)
        return
    from tuwen.exporting.export import export_towers
    from tuwen.models.openclip import load

    with tempfile.TemporaryDirectory() as folder:
        yield str(export_towers(load("ViT-B-32"), Path(folder) / "bundle").folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a bundle's folder, or the name of a packaged model")
    parser.add_argument("--rows", type=int, default=1_000, help="texts in the index that is searched")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender takes its turn")
    parser.add_argument("--json", type=Path, help="also write the result here")
    result: argparse.Namespace = parser.parse_args()
    return result


if __name__ == "__main__":
    main()
