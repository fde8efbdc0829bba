"""How much of the encoder's own rate reaches the clients of `tuwen serve`, beside another server on the same weights.

    python benchmarks/serve_rate.py --seconds 60 --json rate.json
    python benchmarks/serve_rate.py --model b32/ --peer "infinity_emb v2 --model-id HF/ --served-model-name b32
        --engine torch --device cpu --url-prefix /v1 --port {port}" --peer-model b32
    python benchmarks/serve_rate.py --minutes 10     # memory: the loads in turn, looked at every minute

64 clients ask for the vectors of texts, or search by them; 16 send pictures of 500 pixels for their vectors, or add
them to the index. Each asks again when it is answered; no two inputs are alike. wrk asks, on the same cores.

The floor is the encoder alone, in a process of its own, after each load, in batches as large as those that formed:
`of its rate` is by the clock, with wrk and the service on the same cores; `of its cpu` is the processor time of
an input in the encoder by that of a request in the service. `p99 / full` is in times of the largest batch at the rate
of the service under this load, `p99 / alone` in those of the encoder alone. A search by text also needs the engine's
own query, so its `floor cpu_ms` is the encoder's and that of a query by a vector in that process, without a server; for
other loads it is the encoder's.
"""

import argparse
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
from measuring import finish, machine, table
from parts import wrk
from parts.photos import SHARED
from parts.served import Made, make
from parts.service import Process, Service
from parts.wrk import Load

FULL = 32
"""`--max-batch`, and the peer's `--batch-size`"""
CLIENTS = {"embed": 64, "text": 64, "picture": 16, "upload": 16}
TOWERS = {"embed": "text", "text": "text", "picture": "picture", "upload": "picture"}
SAID = {
    "embed": "vectors of texts",
    "text": "searches by text",
    "picture": "vectors of pictures",
    "upload": "pictures added",
}
WORDS = ("a", "the", "two", "small", "old", "red", "wooden", "dog", "child", "boat", "street", "running", "near", "on")
ALONE = ("alone/s", "of its rate", "alone cpu_ms", "of its cpu", "floor cpu_ms", "of floor cpu", "p99 / alone")
WARM_UP = 10.0


def main() -> None:
    arguments = parse()
    missing = wrk.needed()
    if missing:
        raise SystemExit(missing)
    with tempfile.TemporaryDirectory(dir=arguments.place) as folder:
        place = Path(folder)
        made = make(place, arguments.rows, arguments.model)
        bench = Bench(made, place, arguments.seconds, arguments.peer, arguments.peer_model, write_inputs(place))
        if arguments.minutes:
            result = bench.memory(arguments.minutes)
        else:
            result = [row for _ in range(arguments.rounds) for kind in arguments.loads for row in bench.turn(kind)]
    print(table(result))
    finish({"machine": machine(0), "rows": arguments.rows, "loads": result}, arguments.json)


@dataclass(frozen=True)
class Inputs:
    """Files that name inputs: texts, pictures, and the same pictures in base64."""

    texts: Path
    pictures: Path
    encoded: Path


@dataclass(frozen=True)
class Bench:
    """What is measured with, and how long."""

    made: Made
    place: Path
    seconds: float
    peer: str | None
    peer_model: str
    inputs: Inputs

    def turn(self, kind: str) -> Iterator[dict[str, Any]]:
        """One load on the service, beside the encoder alone; then on the peer where that has such a route."""
        with self.service() as service:
            ours = self.loaded("tuwen", service, kind)
        yield ours | self.alone(ours, kind)
        if self.peer and kind in ("embed", "picture"):
            with Process(shlex.split(self.peer), self.place / "peer.log") as peer:
                theirs = self.loaded("peer", peer, kind)
            yield theirs | dict.fromkeys(ALONE)

    def loaded(self, name: str, service: Process, kind: str) -> dict[str, Any]:
        """A service under load, after a while that is not counted: a batch of a new shape takes a tower some time."""
        load = self.load(kind, name)
        wrk.run(service.url, replace(load, seconds=min(WARM_UP, self.seconds)), self.place / "wrk")
        sizes, before, start = batches_of(service, TOWERS[kind]), service.cpu_seconds(), time.monotonic()
        measured = wrk.run(service.url, load, self.place / "wrk")
        busy, wall = service.cpu_seconds() - before, time.monotonic() - start
        row = {
            "server": name,
            "load": SAID[kind],
            "per_second": measured.good_per_second,
            "p50_ms": measured.p50_ms,
            "p99_ms": measured.p99_ms,
            "failed": measured.requests - measured.good + measured.broken,
            "cpu_ms": 1e3 * busy / max(1, measured.requests),
            "cores": busy / wall,
            "wrk_cores": measured.cpu_share * (os.cpu_count() or 1),
            "batch": size_between(sizes, batches_of(service, TOWERS[kind])),
            "p99 / full": measured.p99_ms / 1e3 * measured.good_per_second / FULL,
        }
        print(row, file=sys.stderr, flush=True)
        return row

    def alone(self, row: dict[str, Any], kind: str) -> dict[str, float]:
        """The encoder alone, while no service runs, beside what the service reached."""
        tower = TOWERS[kind]
        file = self.inputs.texts if tower == "text" else self.inputs.pictures
        words = [self.made.model, tower, str(max(1, round(row["batch"]))), str(FULL), str(self.seconds / 4), str(file)]
        words += [str(self.made.index)] if kind == "text" else []
        command = [sys.executable, str(Path(__file__).parent / "parts" / "rates.py"), *words]
        alone = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        floor = alone["cpu_ms"] + alone["query_cpu_ms"]
        return {
            "alone/s": alone["per_second"],
            "of its rate": row["per_second"] / alone["per_second"],
            "alone cpu_ms": alone["cpu_ms"],
            "of its cpu": alone["cpu_ms"] / row["cpu_ms"],
            "floor cpu_ms": floor,
            "of floor cpu": floor / row["cpu_ms"],
            "p99 / alone": row["p99_ms"] / 1e3 / alone["full_batch_s"],
        }

    def memory(self, minutes: int) -> list[dict[str, Any]]:
        """Private memory after each minute of load, the loads in turn."""
        rows = []
        with self.service() as service:
            for minute, kind in zip(range(minutes), cycle(CLIENTS), strict=False):
                measured = wrk.run(service.url, replace(self.load(kind, "tuwen"), seconds=60), self.place / "wrk")
                seen = {"private_mib": service.private_mib(), "resident_mib": service.resident_mib()}
                rows.append({"minute": minute + 1, "load": SAID[kind], "answers": measured.requests, **seen})
                print(rows[-1], file=sys.stderr, flush=True)
        return rows

    def load(self, kind: str, name: str) -> Load:
        lines = {"picture": self.inputs.encoded, "upload": self.inputs.pictures}.get(kind, self.inputs.texts)
        fields = f'"model":"{self.peer_model}",' if name == "peer" else ""
        fields += '"modality":"image",' if name == "peer" and kind == "picture" else ""
        return Load(kind, CLIENTS[kind], self.seconds, lines, sample=10**9, fields=fields)

    def service(self) -> Service:
        options = ("--text-cache", "0", "--max-batch", str(FULL), "--allow-upload")
        return Service(self.made.index, self.made.model, *options, log=self.place / "serve.log")


def batches_of(service: Process, tower: str) -> tuple[float, float] | None:
    """Inputs and batches of a tower so far; a peer does not tell."""
    if not isinstance(service, Service):
        return None
    text = httpx2.get(f"{service.url}/metrics", timeout=10).text
    name = "text" if tower == "text" else "image"
    values = dict(re.findall(rf'tuwen_batch_size_(sum|count)\{{tower="{name}"\}} (\S+)', text))
    return float(values["sum"]), float(values["count"])


def size_between(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    """The mean size of the batches in between."""
    return None if before is None or after is None else (after[0] - before[0]) / max(1.0, after[1] - before[1])


def write_inputs(place: Path) -> Inputs:
    """Texts of 6 to 14 words and photos, as files for wrk and for the encoder alone."""
    draw, inputs = random.Random(1), Inputs(place / "texts.txt", place / "pictures.txt", place / "encoded.txt")
    texts = [f"{' '.join(draw.choices(WORDS, k=draw.randint(5, 13)))} 1x{number}" for number in range(4_000)]
    inputs.texts.write_text("\n".join(texts), encoding="utf-8")
    photos = sorted(SHARED.glob("*.jpg"))[:100]
    inputs.pictures.write_text("\n".join(map(str, photos)), encoding="utf-8")
    for photo in photos:
        data = photo.read_bytes()
        (place / f"{photo.stem}.b64").write_bytes(b64encode(data + bytes(-len(data) % 3)))
    inputs.encoded.write_text("\n".join(str(place / f"{photo.stem}.b64") for photo in photos), encoding="utf-8")
    return inputs


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="of the index")
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--rounds", type=int, default=1, help="how often each load takes its turn")
    parser.add_argument("--loads", nargs="*", default=list(CLIENTS), choices=list(CLIENTS), help="which")
    parser.add_argument("--model", help="a bundle's folder, or demo, in place of ViT-B/32 with random weights")
    parser.add_argument("--peer", help="a command that serves the same weights like OpenAI, with {port} in it")
    parser.add_argument("--peer-model", default="b32", help="the model's name there")
    parser.add_argument("--minutes", type=int, default=0, help="of load, to look at memory, in place of all else")
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure on")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
