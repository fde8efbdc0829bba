"""A folder of photos to rows, end to end: tuwen's ingest against open_clip's transform in a DataLoader, in turns.

    python benchmarks/ingest.py --pictures 60 --rounds 3 --json ingest.json
    python benchmarks/ingest.py --precision fast
    python benchmarks/ingest.py --memory --pictures 20000 --json memory.json

The photos are 12 megapixels large, tiled from photos in ../shared/data, or from the packaged gallery where that is
absent, with sensor noise, JPEG quality 90. Both sides run ViT-B/32 with the same random weights and the same number
of threads. open_clip's side is its own transform in a DataLoader with 2 workers, PyTorch eager fp32 at batch 32,
vectors appended to a numpy file. Loading the model is not counted on either side. The floor adds up what decoding
alone and the model alone take on all threads, measured in the same run. Ratio and share are also those of processor
time: on a machine with other work that is what can be compared, though it does not show a processor that waits.

With --memory: resident memory while small photos are indexed, the process' own and that of mapped files; the
former must not grow after the first thousand, the latter is the system's to take back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from measuring import finish, machine, table
from parts.photos import make_large, make_small

ALONE = ("decoding alone", "model alone")
CLOCKS = ("seconds", "processor")
"""by which a side is measured: time, and seconds of processor time, which other work on the machine hardly moves"""
SIDES = Path(__file__).parent / "parts" / "sides.py"


def main() -> None:
    arguments = parse()
    os.environ["TUWEN_PRECISION"] = arguments.precision  # a setting, which every side reads
    with tempfile.TemporaryDirectory() as folder:
        measure = memory if arguments.memory else speed
        result = measure(arguments, Path(folder))
    finish({"machine": machine(arguments.threads), **result}, arguments.json)


def speed(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each side in a process of its own, taking turns; then what each does for a picture, and the floor."""
    photos, bundle = folder / "photos", arguments.model or build(folder / "bundle", arguments.precision)
    make_large(photos, arguments.pictures)
    jobs = {side: (side, photos) for side in ("tuwen", "open_clip", *ALONE)}
    taken = take_turns(jobs, bundle, folder, arguments)
    print(table(described(taken, arguments.pictures)))
    found = {}
    for clock in CLOCKS:
        ratio = median(
            theirs / ours for ours, theirs in zip(taken["tuwen"][clock], taken["open_clip"][clock], strict=True)
        )
        share = shares(taken, sum, clock)["tuwen"]
        print(f"{clock}: tuwen is {ratio:.2f} times as fast as open_clip, and reaches {share:.0%} of the floor")
        found[clock] = {"times_open_clip": ratio, "share_of_floor": share}
    return {"pictures": arguments.pictures, "rows": described(taken, arguments.pictures), **found}


def take_turns(
    jobs: dict[str, tuple[str, Path]], bundle: Path, folder: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """What each job (a side, and the samples that it reads) took by each clock, round by round."""
    taken: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in CLOCKS} for name in jobs}
    for turn in range(arguments.rounds):
        for name, (side, samples) in jobs.items():
            found = one(side, samples, bundle, folder / f"{name}-{turn}".replace(" ", "-"), arguments.threads)
            for clock in CLOCKS:
                taken[name][clock].append(found[clock])
            print(f"round {turn + 1}, {name}: {arguments.pictures / found['seconds']:.1f} pictures/s", file=sys.stderr)
    return taken


def shares(
    taken: dict[str, dict[str, list[float]]], floor: Callable[[Sequence[float]], float], clock: str
) -> dict[str, float]:
    """The share of the floor that each job reaches; `floor` joins what decoding and the model take alone."""
    floors = [floor(pair) for pair in zip(*(taken[side][clock] for side in ALONE), strict=True)]
    return {
        name: median(best / ours for best, ours in zip(floors, rounds[clock], strict=True))
        for name, rounds in taken.items()
        if name not in ALONE
    }


def described(taken: dict[str, dict[str, list[float]]], pictures: int) -> list[dict[str, Any]]:
    return [
        {
            "what": name,
            "pictures_per_second": pictures / median(rounds["seconds"]),
            **{clock: median(rounds[clock]) for clock in CLOCKS},
        }
        for name, rounds in taken.items()
    ]


def one(side: str, photos: Path, bundle: Path, store: Path, threads: int) -> dict[str, float]:
    """Run one side once; what it says it took by each clock."""
    command = [sys.executable, str(SIDES), side, str(photos), str(bundle), str(store), str(threads)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    taken: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return taken


def memory(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Resident memory after each batch; the first thousand pictures fill the queues and the allocator's pools."""
    photos = folder / "photos"
    make_small(photos, arguments.pictures)
    command = [sys.executable, str(SIDES), "memory", str(photos), str(arguments.model or "demo")]
    run = subprocess.run(
        [*command, str(folder / "store"), str(arguments.threads)], check=True, stdout=subprocess.PIPE, text=True
    )
    samples = json.loads(run.stdout.splitlines()[-1])["samples"]
    print(table(samples[:: max(1, len(samples) // 20)]))
    growth = {kind: grown(samples, kind) for kind in ("own", "mapped")}
    return {"pictures": arguments.pictures, "samples": samples, "growth": growth}


def grown(samples: list[dict[str, float]], kind: str) -> float:
    """By what share memory of a kind was at most larger than after the first 1,000 pictures."""
    after = [sample[kind] for sample in samples if sample["rows"] >= 1000]
    growth = max(after) / after[0] - 1
    print(f"{kind}: {after[0]:.0f} MiB after the first 1,000 pictures, at most {max(after):.0f} later: {growth:+.1%}")
    return growth


def build(folder: Path, precision: str = "auto") -> Path:
    """ViT-B/32 with random weights, as a bundle, in int8 too if `precision` may choose that."""
    from tuwen.exporting.export import export_towers
    from tuwen.models.openclip import load

    return export_towers(load("ViT-B-32"), folder, ("fp32", "int8") if precision == "fast" else ("fp32",)).folder


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2, help="threads of either side")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side takes its turn")
    parser.add_argument("--model", type=Path, help="a bundle in place of ViT-B/32 (with --memory: of the demo model)")
    parser.add_argument("--precision", default="auto", help="of tuwen's side, e.g. fast")
    parser.add_argument("--memory", action="store_true", help="watch memory in place of speed")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
