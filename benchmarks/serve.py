"""`tuwen serve` under load: texts with batching and without, rows as queries, and far more than it can do.

    python benchmarks/serve.py --seconds 60 --json serve.json
    python benchmarks/serve.py --quick

ViT-B/32 with random weights, an index of rows around vectors of real texts, the text cache off. wrk asks, on the
same cores; what it takes itself is in the table. In every request the text is another one. Answers are kept as they
come and compared afterwards with a search in this process: the hits, and the cosine of each. "batch 1" is the same
service with at most one text in a batch; the two take turns. Overload: twenty times the connections, each of which
asks again at once: `offered_times` is all answers, those of 429 included, over the sustained rate; what a service
that is busy refusing cannot even read waits in its connections.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measuring import finish, machine, table
from parts import wrk
from parts.served import Made, make, wrong
from parts.service import Service
from parts.wrk import Load, Measured

import tuwen
from tuwen.errors import ServiceFault

CONNECTIONS = 32
CONTENDERS: dict[str, tuple[str, ...]] = {"batching": (), "batch 1": ("--max-batch", "1")}
WARM_UP = 20.0
"""seconds of load that are not counted, before 60 that are"""
RECOVERY = 5.0
"""seconds that a service may take after overload until it answers as before"""


def main() -> None:
    arguments = parse()
    missing = wrk.needed()
    if missing:
        raise SystemExit(missing)
    with tempfile.TemporaryDirectory(dir=arguments.place) as place:
        made = make(Path(place), arguments.rows, arguments.model)
        bench = Bench(made, Path(place), arguments.seconds, arguments.rounds)
        texts = bench.texts()
        alike = bench.alike()
        overload = bench.overload(texts["batching"]["per_second"])
    print(table([{"what": name, **row} for name, row in (texts | {"rows": alike}).items()]))
    print(table([overload]))
    ratio = texts["batching"]["per_second"] / texts["batch 1"]["per_second"]
    print(f"texts: {ratio:.2f} times the rate of a maximum batch of 1")
    met = bars(texts["batching"], ratio, alike, overload)
    print(table([met]))
    document = {"rows": arguments.rows, "connections": CONNECTIONS, "texts": texts, "times_batch_1": ratio}
    finish({"machine": machine(0), **document, "like": alike, "overload": overload, "bars": met}, arguments.json)


def bars(texts: dict[str, Any], ratio: float, alike: dict[str, Any], overload: dict[str, Any]) -> dict[str, bool]:
    """What a service of 100,000 rows on two cores must reach, and whether it did."""
    return {
        "times_batch_1 >= 1.3": ratio >= 1.3,
        "p99 < 1 s": texts["p99_ms"] < 1000,
        "none wrong or lost": not any(row[name] for row in (texts, alike) for name in ("wrong", "lost", "not_2xx")),
        "rows >= 400/s": alike["per_second"] >= 400,
        "overload refused": overload["refused"] > 0,
        "memory stays": overload["mib_settled"] < 1.1 * overload["mib_before"],
        "recovers in 5 s": overload["in_time"],
    }


@dataclass(frozen=True)
class Bench:
    """What is measured with, and how long."""

    made: Made
    place: Path
    seconds: float
    rounds: int

    def texts(self) -> dict[str, dict[str, Any]]:
        """Both contenders, in turns, each time a new service."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for turn in range(self.rounds):
            for name, options in CONTENDERS.items():
                found[name].append(self.loaded(f"texts, {name}, round {turn + 1}", "text", options))
        return {name: median_of(rows) for name, rows in found.items()}

    def alike(self) -> dict[str, Any]:
        """Rows as queries: nothing is encoded."""
        return self.loaded("rows as queries", "like", ())

    def loaded(self, what: str, kind: str, options: Sequence[str]) -> dict[str, Any]:
        """One service, loaded once; first it is warmed up: each new shape of a batch takes a tower some time."""
        load = Load(kind, CONNECTIONS, self.seconds, self.made.ids)
        with self.service(*options) as service:
            wrk.run(service.url, replace(load, seconds=WARM_UP * min(1.0, self.seconds / 60)), self.place / "wrk")
            before, start = service.cpu_seconds(), time.monotonic()
            measured = wrk.run(service.url, load, self.place / "wrk")
            busy = (service.cpu_seconds() - before) / (time.monotonic() - start)
        row = {**described(measured), "server_cores": busy, "checked": len(measured.answers)}
        row["wrong"] = wrong(measured.answers, self.made)
        say(f"{what}: {row['per_second']:.0f}/s, p99 {row['p99_ms']:.0f} ms, {row['wrong']}/{row['checked']} wrong")
        return row

    def overload(self, sustained: float) -> dict[str, Any]:
        """Far more connections than the queue holds, which ask again at once when refused; then one person asks."""
        load = Load("text", 20 * CONNECTIONS, min(self.seconds, 30.0), self.made.ids, sample=10**9)
        with self.service() as service:
            wrk.run(service.url, replace(load, connections=CONNECTIONS, seconds=self.seconds), self.place / "wrk")
            calm, before = first_answer(service.url), service.resident_mib()
            measured = wrk.run(service.url, load, self.place / "wrk")
            ended, after = time.monotonic(), service.resident_mib()
            recovered = first_answer(service.url, ended)
            settled = service.resident_mib()
        row = described(measured) | {"offered_times": measured.requests / measured.seconds / sustained}
        row |= {"refused": measured.statuses.get("429", 0), "calm_s": calm, "recovered_s": recovered}
        row |= {"mib_before": before, "mib_after": after, "mib_settled": settled, "in_time": recovered <= RECOVERY}
        say(f"overload: {row['offered_times']:.1f} times the sustained rate, {row['refused']} refused")
        return row

    def service(self, *options: str) -> Service:
        """A new one, with the text cache off."""
        options = ("--text-cache", "0", *options)
        return Service(self.made.index, self.made.model, *options, log=self.place / "serve.log")


def described(measured: Measured) -> dict[str, Any]:
    """What wrk measured, as a row."""
    return {
        "per_second": measured.good_per_second,
        "p50_ms": measured.p50_ms,
        "p99_ms": measured.p99_ms,
        "not_2xx": measured.requests - measured.good,
        "lost": measured.broken,
        "wrk_cpu": measured.cpu_share,
    }


def median_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates and times: the median of the rounds; what must not happen, and what was checked: the sum."""
    summed = ("not_2xx", "lost", "checked", "wrong")
    return {name: (sum if name in summed else statistics.median)(row[name] for row in rows) for name in rows[0]}


def first_answer(url: str, since: float | None = None) -> float:
    """Seconds until a text that nobody has asked before is answered; since now, or a time that has passed."""
    start = time.monotonic() if since is None else since
    with tuwen.Client(url, timeout=60) as client:
        while True:
            try:
                client.search(f"a text of its own {start}")
                return time.monotonic() - start
            except ServiceFault:
                time.sleep(0.05)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--rounds", type=int, default=1, help="how often each contender takes its turn")
    parser.add_argument("--model", help="a bundle's folder, or demo, in place of ViT-B/32 with random weights")
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure on")
    parser.add_argument("--quick", action="store_true", help="see that it runs: the demo model, few rows and seconds")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.seconds, arguments.model = 2_000, 2.0, "demo"
    return arguments


if __name__ == "__main__":
    main()
