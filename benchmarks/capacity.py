"""What a collection of a million, a hundred million, a billion pictures takes: worked out from what was measured.

    python benchmarks/search.py --rows 100000 --json small.json
    python benchmarks/search.py --rows 1000000 --json large.json
    python benchmarks/capacity.py small.json large.json --pictures-per-second 9.2 --json capacity.json

Sizes grow with the rows, a graph's build with rows and their logarithm. That is held against the larger of the two
measurements, which is predicted from the smaller. Embedding by many machines is played through event by event:
shards are handed out one by one, machines fail at random, a failed machine's shard is begun anew by another.
"""

import argparse
import heapq
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import finish, machine, table

COLLECTIONS = (1_000_000, 100_000_000, 1_000_000_000)
SHARD = 10_000
"""pictures that are embedded, written and acknowledged as one"""
NODE_GB = 64
"""memory of one machine that searches"""
COPIES = 2
"""of every row, so that a machine may fail"""
HOT = 1.25
"""int8 vectors and graph are kept in memory, and a quarter as much is left for all else"""
LINKS = 24
"""HNSW's m: a row has twice as many links on the lowest level, of four bytes each, and a tenth more above"""


@dataclass(frozen=True)
class Costs:
    """What one row takes, as measured: bytes on the disk, bytes in memory while searched, seconds to write."""

    disk: float
    memory: float
    write: float
    build: float
    """seconds of building, for a row and a halving of the rows"""

    @classmethod
    def of(cls, measured: dict[str, Any]) -> "Costs":
        rows, dim = measured["rows"], measured["dim"]
        return cls(
            disk=measured["disk_mb"] * 2**20 / rows,
            memory=HOT * (dim + 2 * LINKS * 4 * 1.1),
            write=1 / measured["rows_per_second"],
            build=measured["build_s"] / (rows * math.log2(rows)),
        )


@dataclass(frozen=True)
class Fleet:
    """Machines that embed. `pictures_per_second`: of one; `mean_hours`: between two failures of one."""

    machines: int
    pictures_per_second: float
    mean_hours: float = 200.0
    repair_hours: float = 0.2


def main() -> None:
    arguments = parse()
    small, large = (json.loads(path.read_text()) for path in (arguments.small, arguments.large))
    checks = predict(Costs.of(small), large)
    print(table(checks))
    costs = Costs.of(large)
    rows = [needs(costs, count, arguments.pictures_per_second) for count in COLLECTIONS]
    print(table(rows))
    runs = [play(fleet, 10_000_000, seed) for fleet in fleets(arguments.pictures_per_second) for seed in range(3)]
    print(table(runs))
    finish({"machine": machine(0), "checks": checks, "needs": rows, "fleets": runs}, arguments.json)


def predict(costs: Costs, large: dict[str, Any]) -> list[dict[str, Any]]:
    """The larger collection from the smaller one's costs, beside what was measured."""
    rows = large["rows"]
    predicted = {
        "disk_mb": costs.disk * rows / 2**20,
        "write_s": costs.write * rows,
        "build_s": costs.build * rows * math.log2(rows),
    }
    measured = {
        "disk_mb": large["disk_mb"],
        "write_s": rows / large["rows_per_second"],
        "build_s": large["build_s"],
    }
    return [
        {"what": name, "predicted": value, "measured": measured[name], "off_by": value / measured[name] - 1}
        for name, value in predicted.items()
    ]


def needs(costs: Costs, rows: int, rate: float) -> dict[str, Any]:
    """What a collection takes. A machine that searches holds `NODE_GB`; every row stands on `COPIES` of them."""
    memory = costs.memory * rows
    nodes = 1 if memory < NODE_GB * 1e9 else math.ceil(COPIES * memory / (NODE_GB * 1e9))
    each = rows / nodes * (COPIES if nodes > 1 else 1)
    return {
        "pictures": f"{rows:,}",
        "disk_gb": costs.disk * rows / 1e9,
        "memory_gb": memory / 1e9,
        "search_machines": nodes,
        "write_and_build_h": (costs.write * each + costs.build * each * math.log2(each)) / 3600,
        "embed_machine_days": rows / rate / 86_400,
        "machines_for_a_week": math.ceil(rows / rate / (7 * 86_400)),
    }


def fleets(rate: float) -> list[Fleet]:
    return [Fleet(machines, rate) for machines in (1, 8, 64)]


def play(fleet: Fleet, pictures: int, seed: int) -> dict[str, Any]:
    """Embed a collection event by event: (hour, machine) is when a machine is free for its next shard."""
    random = np.random.default_rng(seed)
    hours = SHARD / fleet.pictures_per_second / 3600
    left, lost, end = math.ceil(pictures / SHARD), 0, 0.0
    free = [(0.0, number) for number in range(fleet.machines)]
    failing = random.exponential(fleet.mean_hours, fleet.machines)
    while left:
        now, number = heapq.heappop(free)
        done = now + hours
        if failing[number] < done:
            lost += 1
            now = max(now, failing[number]) + fleet.repair_hours
            failing[number] = now + random.exponential(fleet.mean_hours)
            heapq.heappush(free, (now, number))
            continue
        left -= 1
        end = max(end, done)
        heapq.heappush(free, (done, number))
    ideal = pictures / fleet.pictures_per_second / 3600 / fleet.machines
    return {"machines": fleet.machines, "hours": end, "over_ideal": end / ideal - 1, "shards_begun_anew": lost}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=Path, help="what benchmarks/search.py --json wrote for fewer rows")
    parser.add_argument("large", type=Path, help="and for more")
    parser.add_argument("--pictures-per-second", type=float, required=True, help="embedded by one machine")
    parser.add_argument("--json", type=Path, help="a file for the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
