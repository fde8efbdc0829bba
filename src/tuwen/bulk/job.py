"""The state of a bulk job in its folder: the plan, the shards that are done, and the report.

    OUT/embedding/job.json       the model, the layout and the hash of the input; a job with others is refused
    OUT/embedding/plan/*.jsonl   the samples of each shard; rejected.jsonl: what could not be listed
    OUT/embedding/done/*.json    the shards that are written, with their counts and rejected samples
    OUT/report.json              the counts of the job, once it is done; rejected.jsonl: one line per rejected sample

Files are written completely or not at all.
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

from tuwen.bundle.files import replace_text, sync
from tuwen.data.files import Skipped
from tuwen.data.samples import Listed
from tuwen.errors import InvalidInput, TuwenError
from tuwen.runtime.pipeline import batched
from tuwen.types import Rejected

FORMAT = 1
STATE, JOB, PLAN, DONE = "embedding", "job.json", "plan", "done"
REPORT, REJECTED, UNUSED = "report.json", "rejected.jsonl", "unused.jsonl"
_ASIDE = ".new-"
_COUNTS = ("samples", "embedded", "images", "texts", "truncated", "skipped")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a shard.

    Attributes:
        samples: all samples.
        embedded: samples in the output.
        images: vectors of images.
        texts: vectors of captions.
        truncated: captions longer than the model's context length.
        skipped: samples with nothing to embed.
        rejected: samples that could not be embedded, with the reasons.
    """

    samples: int
    embedded: int
    images: int
    texts: int
    truncated: int
    skipped: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class EmbedReport(Outcome):
    """What a job has done, in all its runs together: the counts of all shards, and how they were computed.

    Attributes:
        shards: how many shards there are.
        model: the name of the model.
        fingerprint: its fingerprint.
        precision: what it computed in.
        dim: the length of the vectors.
        layout: of the output.
        unused: the files that belong to no sample; they are counted as skipped.
    """

    shards: int
    model: str
    fingerprint: str
    precision: str
    dim: int
    layout: str
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A planned job, in a folder that this process has locked. See `begun`."""

    out: Path
    facts: Mapping[str, Any]

    @property
    def shards(self) -> int:
        """The number of shards."""
        return int(self.facts["shards"])

    def done(self) -> set[int]:
        """The numbers of the shards that are written."""
        return {int(path.stem) for path in (self.out / STATE / DONE).glob("*.json")}

    def listed(self, shard: int) -> Iterator[Listed]:
        """The samples of a shard."""
        yield from map(Listed.of_line, self.lines(shard))

    def lines(self, shard: int) -> list[str]:
        """The samples of a shard, as lines of the plan."""
        return (self.out / STATE / PLAN / f"{shard:06}.jsonl").read_text(encoding="ascii").splitlines()

    def commit(self, shard: int, files: Mapping[str, bytes], outcome: Outcome) -> None:
        """Write a shard and record it as done; its files are written aside, then renamed. Flushed on return."""
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
        replace_text(self.out / STATE / DONE / f"{shard:06}.json", _json({"shard": shard, **asdict(outcome)}))

    def finish(self) -> EmbedReport:
        """Write the report of a job whose shards are all done, and return it."""
        outcomes = [json.loads(path.read_bytes()) for path in sorted((self.out / STATE / DONE).glob("*.json"))]
        plan = self.out / STATE / PLAN
        rejected = _read_lines(plan / REJECTED)
        unused = _read_lines(plan / UNUSED) if (plan / UNUSED).exists() else []  # earlier versions did not list them
        rejected += [item for outcome in outcomes for item in outcome["rejected"]]
        counts = {name: sum(outcome[name] for outcome in outcomes) for name in _COUNTS}
        counts["skipped"] += self.facts["skipped"]
        model = {name: self.facts[name] for name in ("model", "fingerprint", "precision", "dim", "layout")}
        report = EmbedReport(
            **counts,
            rejected=tuple(Rejected(**item) for item in rejected),
            shards=self.shards,
            **model,
            unused=tuple(unused),
        )
        for name, items in ((REJECTED, rejected), (UNUSED, unused)):
            replace_text(self.out / name, "".join(f"{json.dumps(item)}\n" for item in items))
        replace_text(self.out / REPORT, _json(asdict(report) | {"rejected": len(rejected), "unused": len(unused)}))
        return report


@contextmanager
def begun(
    out: Path,
    facts: Mapping[str, Any],
    listed: Iterable[Listed | Rejected | Skipped],
    shard_size: int,
    *,
    adds: bool = False,
) -> Iterator[Job]:
    """Plan a job, or resume the one in `out`. The folder is locked until the block ends.

    Args:
        out: the job's folder: new, empty, or of the same job.
        facts: what the output depends on beside the input: model, precision, layout.
        listed: the input.
        shard_size: samples per shard.
        adds: the output is added to what is there (an index), so that a new job may follow a finished one.

    Raises:
        InvalidInput: `out` holds something else, or a job with another model, layout or input.
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
    """Replace the job that is there, of which all shards are done or none, by the one that was planned aside."""
    if (state / DONE).exists():
        (state / DONE).rename(state / f"{_ASIDE}done")
        sync(state)
    for old in (state / f"{_ASIDE}done", state / PLAN):
        shutil.rmtree(old, ignore_errors=True)
    (state / f"{_ASIDE}plan").rename(state / PLAN)
    (state / DONE).mkdir()
    sync(state)
    replace_text(state / JOB, _json(facts))


def _known(state: Path) -> dict[str, Any] | None:
    """The job that was started here; None if nothing of it is written yet, so that another may replace it."""
    if not any((state / DONE).glob("*.json")):
        return None
    try:
        content: dict[str, Any] = json.loads((state / JOB).read_bytes())
    except FileNotFoundError:
        return None
    return content


def check_free(out: Path) -> None:
    """Check that a folder can be used for a job.

    Raises:
        InvalidInput: it is a file, or holds something that is not a job.
    """
    if out.exists() and not out.is_dir():
        hint = "give a folder to write to"
        raise InvalidInput(f"{out} is a file: {hint}", value=out, hint=hint)
    if out.is_dir() and any(path.name != STATE for path in out.iterdir()) and not (out / STATE / JOB).exists():
        hint = "give a new folder, or that of the job to resume"
        raise InvalidInput(f"{out} is not empty and not an embedding job: {hint}", value=out, hint=hint)


def _check_same(out: Path, known: Mapping[str, Any], wanted: Mapping[str, Any], *, adds: bool) -> None:
    way_out = f"delete {out / STATE} to abandon that job" if adds else "give another folder"
    hint = f"repeat the command that started it, or {way_out}"
    for name, value in wanted.items():
        if known.get(name) != value:
            of_input = name in {"input", "samples", "shards", "skipped", "pictured", "captioned"}
            before = "with other input" if of_input else f"with {name} {known.get(name)!r}, not {value!r}"
            raise InvalidInput(f"the job in {out} was started {before}: {hint}", value=value, where=name, hint=hint)


def _planned(folder: Path, listed: Iterable[Listed | Rejected | Skipped], shard_size: int) -> dict[str, Any]:
    """Write the plan; return the counts of samples, and a hash over all of them in order."""
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
    _write(folder / UNUSED, "".join(f"{json.dumps(name)}\n" for name in tally.unused).encode("ascii"))
    return {
        "samples": tally.samples,
        "shards": shards,
        "skipped": tally.skipped,
        "pictured": tally.pictured,
        "captioned": tally.captioned,
        "input": tally.digest.hexdigest(),  # also covers what could not be listed
    }


class _Tally:
    """Counts samples while they are listed."""

    def __init__(self) -> None:
        self.samples = 0
        self.skipped = 0
        self.pictured = False
        self.captioned = False
        self.rejected: list[Rejected] = []
        self.unused: list[str] = []
        self.digest = hashlib.sha256()

    def kept(self, listed: Iterable[Listed | Rejected | Skipped]) -> Iterator[Listed]:
        for item in listed:
            if isinstance(item, Rejected):
                self.rejected.append(item)
            elif isinstance(item, Skipped):
                self.skipped += 1
                if not item.excluded:
                    self.unused.append(str(item.path))
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
        hint = "wait for it, or give another folder"
        raise TuwenError(
            f"another process is writing to {state.parent}: {hint}", value=state.parent, hint=hint
        ) from error


def _read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
