"""Search, upload and delete by real clients, the service killed every minute: what is in the index at last?

    python benchmarks/soak.py --minutes 20 --json soak.json
    python benchmarks/soak.py --quick

Every picture is another one. What a call returned from is *acknowledged*; what was under way when the service was
killed may be either, and is tried again later or left so. After the last kill and start the index must hold every
picture whose upload was acknowledged and whose removal was never begun, with its bytes, and none whose removal was
acknowledged.
"""

import argparse
import hashlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from measuring import finish, machine, table
from parts.service import Service
from PIL import Image

import tuwen
from tuwen.errors import NotFound, ServiceBusy, ServiceUnreachable
from tuwen.index.index import VectorIndex
from tuwen.search.query import RowId

QUERIES = ("a red apple", "一只狗", "der Mond bei Nacht", "noise", "green")


@dataclass
class Ledger:
    """What became of every picture, by the sha256 of its bytes. Safe in several threads.

    Attributes:
        present: acknowledged, and no removal begun: content -> row.
        absent: removals that were acknowledged.
        unknown: under way when the service went: either.
        counts: what was done, and how often.
        faults: what must not happen.
    """

    present: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begun(self, content: str) -> None:
        with self.lock:
            self.unknown.add(content)

    def uploaded(self, content: str, row: str) -> None:
        with self.lock:
            self.unknown.discard(content)
            self.present[content] = row
            self.counts["uploads"] += 1

    def doomed(self) -> tuple[str, str] | None:
        """A picture that is there; from now on it is unknown."""
        with self.lock:
            if len(self.present) < 5:
                return None
            content = random.choice(list(self.present))
            self.unknown.add(content)
            return content, self.present.pop(content)

    def removed(self, content: str) -> None:
        with self.lock:
            self.unknown.discard(content)
            self.absent.add(content)
            self.counts["removals"] += 1

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def fault(self, what: str) -> None:
        with self.lock:
            self.faults.append(what)


@dataclass(frozen=True)
class Worker:
    """One client, which does one kind of thing again and again."""

    url: str
    ledger: Ledger
    stop: threading.Event
    seed: int

    def run(self, act: Callable[[tuwen.Client, random.Random], None]) -> None:
        draw = random.Random(self.seed)
        with tuwen.Client(self.url, timeout=20) as client:
            while not self.stop.is_set():
                try:
                    act(client, draw)
                except (ServiceUnreachable, ServiceBusy):
                    self.ledger.count("unanswered")
                    self._wait(client)
                except Exception as error:
                    self.ledger.fault(f"{act.__name__}: {type(error).__name__}: {error}")
                    self.stop.wait(0.2)

    def search(self, client: tuwen.Client, draw: random.Random) -> None:
        hits = client.search(draw.choice(QUERIES), k=5)
        if [hit.score for hit in hits] != sorted((hit.score for hit in hits), reverse=True):
            self.ledger.fault("search: hits are not best first")
        self.ledger.count("searches")
        self.stop.wait(0.02)

    def _wait(self, client: tuwen.Client) -> None:
        """Until the service is there again."""
        while not self.stop.wait(0.2):
            with suppress(ServiceUnreachable, ServiceBusy):
                client.info()
                return

    def upload(self, client: tuwen.Client, draw: random.Random) -> None:
        """One to three new pictures; where no answer comes, three times in four the same again."""
        pictures = [picture(draw) for _ in range(draw.randint(1, 3))]
        contents = [hashlib.sha256(data).hexdigest() for data in pictures]
        for content in contents:
            self.ledger.begun(content)
        patient = draw.random() < 0.75
        while True:
            try:
                added = client.add(pictures)
                break
            except (ServiceUnreachable, ServiceBusy):
                if self.stop.is_set() or not patient:
                    raise
                self._wait(client)
        if added.rejected or len(added.ids) != len(pictures):
            self.ledger.fault(f"upload: {added}")
        for number, content in enumerate(contents):
            self.ledger.uploaded(content, added.ids[f"images[{number}]"])

    def remove(self, client: tuwen.Client, draw: random.Random) -> None:
        doomed = self.ledger.doomed()
        if doomed is not None:
            content, row = doomed
            if client.remove([RowId(row)]) == 1:
                self.ledger.removed(content)
            else:
                self.ledger.fault(f"remove: {row} was acknowledged, and is gone")
        self.stop.wait(draw.uniform(0.1, 0.6))


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory(dir=arguments.place) as place:
        index = Path(place) / "PHOTOS" / "soak.tuwen"
        index.parent.mkdir()
        VectorIndex.create(index, encoder=tuwen.load("demo"), root=index.parent).close()
        service = Service(index, "demo", "--allow-upload", log=Path(place) / "serve.log")
        ledger, kills = soak(service, arguments)
        with service:
            found = compare(service.url, ledger)
    problems = {**found, "faults": len(ledger.faults)}
    done = {"minutes": arguments.minutes, "kills": kills, **ledger.counts, "unknown": len(ledger.unknown)}
    print(table([done]))
    print(table([problems]))
    for fault in ledger.faults[:20]:
        print(fault)
    passed = not any(problems.values())
    print("the index holds exactly what was acknowledged" if passed else "FAILED")
    finish({"machine": machine(0), **done, **problems, "passed": passed}, arguments.json)
    sys.exit(0 if passed else 1)


def soak(service: Service, arguments: argparse.Namespace) -> tuple[Ledger, int]:
    """All workers, and a kill every so often; the last one ends it."""
    ledger, stop = Ledger(), threading.Event()
    workers = [Worker(service.url, ledger, stop, seed) for seed in range(8)]
    acts = [it.search for it in workers[:3]] + [it.upload for it in workers[3:6]] + [it.remove for it in workers[6:]]
    threads = [threading.Thread(target=it.run, args=(act,)) for it, act in zip(workers, acts, strict=True)]
    service.start()
    for thread in threads:
        thread.start()
    end, kills = time.monotonic() + arguments.minutes * 60, 0
    while True:
        time.sleep(random.uniform(0.8, 1.2) * arguments.kill_every)
        service.kill()
        kills += 1
        left = max(0, end - time.monotonic())
        said = ", ".join(f"{count} {what}" for what, count in ledger.counts.items())
        print(
            f"kill {kills}, {left / 60:.1f} min left: {said}, {len(ledger.faults)} faults",
            file=sys.stderr,
            flush=True,
        )
        if not left:
            break
        service.start()
    stop.set()
    for thread in threads:
        thread.join()
    return ledger, kills


def compare(url: str, ledger: Ledger) -> dict[str, int]:
    """What is not as it must be."""
    with tuwen.Client(url, timeout=60) as client:
        stored = {str(row.payload["content"]): row.id for row in client.list()}
        told = client.info().rows
        files = {content: digest_of(client, row) for content, row in stored.items()}
    print(f"{len(stored)} rows; {len(ledger.present)} acknowledged, {len(ledger.unknown)} either", file=sys.stderr)
    return {
        "missing": len(ledger.present.keys() - stored.keys()),
        "came_back": len(ledger.absent & stored.keys()),
        "nobodys": len(stored.keys() - ledger.present.keys() - ledger.unknown),
        "other_ids": sum(stored.get(content, row) != row for content, row in ledger.present.items()),
        "other_bytes": sum(content != found for content, found in files.items()),
        "counted_otherwise": abs(told - len(stored)),
    }


def digest_of(client: tuwen.Client, row: str) -> str:
    """Of a row's file; of none where it is gone."""
    try:
        return hashlib.sha256(client.picture(RowId(row))).hexdigest()
    except NotFound:
        return "no file"


def picture(draw: random.Random) -> bytes:
    """A file that nobody else has."""
    pixels = np.frombuffer(draw.randbytes(48 * 48 * 3), np.uint8).reshape(48, 48, 3)
    written = BytesIO()
    Image.fromarray(pixels).resize((160, 120)).save(written, format=draw.choice(("PNG", "JPEG", "WEBP")))
    return written.getvalue()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--kill-every", type=float, default=60, help="seconds, more or less")
    parser.add_argument("--place", type=Path, help="a folder on the disk to work on")
    parser.add_argument("--quick", action="store_true", help="see that it runs: half a minute, a kill every 7 seconds")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.minutes, arguments.kill_every = 0.4, 7.0
    return arguments


if __name__ == "__main__":
    main()
