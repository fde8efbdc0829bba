"""The folder of a bulk job: what is to be done, what is done, and the report. Every file is whole or not there.

    OUT/embedding/job.json       the model, the layout, the hash of the input: another of either is refused
    OUT/embedding/plan/*.jsonl   the samples of each shard; rejected.jsonl: what could not be listed
    OUT/embedding/done/*.json    the shards that are written, each with its counts and its rejected samples
    OUT/report.json              the counts of the whole job, once all is done; rejected.jsonl: a line a reject

Knows files. Does not know what a shard holds.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuwen.bundle.files import sync
from tuwen.data.files import Skipped
from tuwen.data.samples import Listed
from tuwen.errors import InvalidInput, TuwenError
from tuwen.runtime.pipeline import batched
from tuwen.types import Rejected

FORMAT = 1
STATE, JOB, PLAN, DONE = "embedding", "job.json", "plan", "done"
REPORT, REJECTED = "report.json", "rejected.jsonl"
_ASIDE = ".new-"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a shard.

    Attributes:
        samples: those listed.
        embedded: those in the output.
        images: vectors of pictures.
        texts: vectors of captions.
        truncated: captions longer than the model reads.
        skipped: samples with nothing of what was wanted.
        rejected: the samples that could not be embedded.
    """

    samples: int
    embedded: int
    images: int
    texts: int
    truncated: int
    skipped: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that has been planned, in a folder that this process alone writes to. See `begun`."""

    out: Path
    facts: Mapping[str, Any]

    @property
    def shards(self) -> int:
        """How many there are."""
        return int(self.facts["shards"])

    def done(self) -> set[int]:
        """The shards that are written."""
        return {int(path.stem) for path in (self.out / STATE / DONE).glob("*.json")}

    def listed(self, shard: int) -> Iterator[Listed]:
        """The samples of a shard."""
        yield from map(Listed.of_line, self.lines(shard))

    def lines(self, shard: int) -> list[str]:
        """The samples of a shard, as the plan has them."""
        return (self.out / STATE / PLAN / f"{shard:06}.jsonl").read_text(encoding="ascii").splitlines()

    def commit(self, shard: int, files: Mapping[str, bytes], outcome: Outcome) -> None:
        """Write a shard: files aside, renamed into place, then noted as done. On return it is on the disk."""
        aside = self.out / STATE / f"{_ASIDE}{shard:06}"
        shutil.rmtree(aside, ignore_errors=True)
        for name, content in files.items():
            _write(aside / name, content)
        folders = set()
        for name in files:
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).replace(self.out / name)
            folders.add((self.out / name).parent)
        for folder in folders:
            sync(folder)
        shutil.rmtree(aside, ignore_errors=True)
        _replace(self.out / STATE / DONE / f"{shard:06}.json", _json({"shard": shard, **asdict(outcome)}))

    def finish(self) -> Mapping[str, Any]:
        """Write the report of a job whose shards are all done; and return it, with the rejected samples."""
        outcomes = [json.loads(path.read_bytes()) for path in sorted((self.out / STATE / DONE).glob("*.json"))]
        listing = (self.out / STATE / PLAN / REJECTED).read_text(encoding="ascii").splitlines()
        rejected = [json.loads(line) for line in listing]
        rejected += [item for outcome in outcomes for item in outcome["rejected"]]
        names = ("samples", "embedded", "images", "texts", "truncated", "skipped")
        report = {name: sum(outcome[name] for outcome in outcomes) for name in names}
        report["skipped"] += self.facts["skipped"]
        report |= {"rejected": len(rejected), "shards": self.shards}
        report |= {name: self.facts[name] for name in ("model", "fingerprint", "precision", "dim", "layout")}
        _replace(self.out / REJECTED, "".join(f"{json.dumps(item)}\n" for item in rejected))
        _replace(self.out / REPORT, _json(report))
        return {**report, "rejected": rejected}


@contextmanager
def begun(
    out: Path,
    facts: Mapping[str, Any],
    listed: Iterable[Listed | Rejected | Skipped],
    shard_size: int,
    *,
    adds: bool = False,
) -> Iterator[Job]:
    """Plan a job, or go on with the one that is in `out`, which is held until the block ends.

    Args:
        out: its folder; new, empty, or of the same job.
        facts: what the output depends on beside the input: model, precision, layout.
        listed: the input.
        shard_size: samples a shard.
        adds: what is written stands beside what is there, so another job may follow one that is through.

    Raises:
        InvalidInput: `out` holds something else, or a job of another model, layout or input.
        TuwenError: another process is writing to it.
    """
    state = out / STATE
    state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        _lock(state, held)
        for path in state.glob(f"{_ASIDE}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        wanted = {"format": FORMAT, **facts, "shard_size": shard_size}
        known = _known(state)
        through = adds and known is not None and len(Job(out, known).done()) == known["shards"]
        if known is not None and not through:
            _check_same(out, known, wanted, adds=adds)
        found = _planned(state / f"{_ASIDE}plan", listed, shard_size)
        if known is None or (through and known != {**wanted, **found}):
            _begin(state, {**wanted, **found})
        else:
            shutil.rmtree(state / f"{_ASIDE}plan")
            _check_same(out, known, found, adds=adds)
        yield Job(out, {**wanted, **found})


def _begin(state: Path, facts: Mapping[str, Any]) -> None:
    """Put the job that was planned aside in place of the one that is there, whose shards are done all or none."""
    if (state / DONE).exists():
        (state / DONE).rename(state / f"{_ASIDE}done")
        sync(state)
    for old in (state / f"{_ASIDE}done", state / PLAN):
        shutil.rmtree(old, ignore_errors=True)
    (state / f"{_ASIDE}plan").rename(state / PLAN)
    (state / DONE).mkdir()
    sync(state)
    _replace(state / JOB, _json(facts))


def _known(state: Path) -> dict[str, Any] | None:
    """The job that was begun here; none if nothing of it is written yet, so that another may take its place."""
    if not any((state / DONE).glob("*.json")):
        return None
    try:
        content: dict[str, Any] = json.loads((state / JOB).read_bytes())
    except FileNotFoundError:
        return None
    return content


def check_free(out: Path) -> None:
    """See that a folder may become a job's.

    Raises:
        InvalidInput: it is a file, or holds something that is not a job.
    """
    if out.exists() and not out.is_dir():
        raise InvalidInput(f"{out} is a file: name a folder to write to")
    if out.is_dir() and any(path.name != STATE for path in out.iterdir()) and not (out / STATE / JOB).exists():
        raise InvalidInput(f"{out} holds something else: name a new folder, or that of the job to go on with")


def _check_same(out: Path, known: Mapping[str, Any], wanted: Mapping[str, Any], *, adds: bool) -> None:
    way_out = f"or delete {out / STATE}, to let that job go" if adds else "or name another folder"
    for name, value in wanted.items():
        if known.get(name) != value:
            said = (
                "another input" if name in {"input", "samples", "shards", "skipped"} else f"{name} {known.get(name)!r}"
            )
            given = "" if said == "another input" else f", not {value!r}"
            raise InvalidInput(f"{out} was begun with {said}{given}: give what it was begun with, {way_out}")


def _planned(folder: Path, listed: Iterable[Listed | Rejected | Skipped], shard_size: int) -> dict[str, Any]:
    """Write the plan, and say what is in it: how many samples, and a hash over all of them in their order."""
    folder.mkdir()
    tally = _Tally()
    shards = 0
    for shards, group in enumerate(batched(tally.kept(listed), shard_size), start=1):
        lines = "".join(f"{item.line()}\n" for item in group).encode("ascii")
        tally.digest.update(lines)
        _write(folder / f"{shards - 1:06}.jsonl", lines)
    rejected = "".join(f"{json.dumps(asdict(item))}\n" for item in tally.rejected).encode("ascii")
    tally.digest.update(rejected)
    _write(folder / REJECTED, rejected)
    return {
        "samples": tally.samples,
        "shards": shards,
        "skipped": tally.skipped,
        "pictured": tally.pictured,
        "captioned": tally.captioned,
        "input": tally.digest.hexdigest(),  # of what could not be listed, too
    }


class _Tally:
    """What passes by while samples are listed."""

    def __init__(self) -> None:
        self.samples = 0
        self.skipped = 0
        self.pictured = False
        self.captioned = False
        self.rejected: list[Rejected] = []
        self.digest = hashlib.sha256()

    def kept(self, listed: Iterable[Listed | Rejected | Skipped]) -> Iterator[Listed]:
        for item in listed:
            if isinstance(item, Rejected):
                self.rejected.append(item)
            elif isinstance(item, Skipped):
                self.skipped += 1
            else:
                self.samples += 1
                self.pictured |= item.pictured
                self.captioned |= item.captioned
                yield item


def _lock(state: Path, held: ExitStack) -> None:
    if sys.platform == "win32":  # pragma: no cover
        return
    import fcntl

    file = held.enter_context((state / "lock").open("wb"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise TuwenError(
            f"another process is writing to {state.parent}: wait for it, or name another folder"
        ) from error


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.new")
    _write(aside, text.encode())
    aside.replace(path)
    sync(path.parent)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
