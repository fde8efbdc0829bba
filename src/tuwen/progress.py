"""How far a long run is, on standard error: a bar for people, or one JSON line a batch for programs."""

import json
import sys
from collections import deque
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

KINDS = ("auto", "json", "none")
"""`auto`: a bar on a terminal, else nothing; `json`: one line `{"committed": n}` a batch"""


class Progress:
    """A context manager: `begin` with the total, then `show` after each batch."""

    def __init__(self, kind: str = "auto") -> None:
        self._kind = kind
        self._bar: Bar | None = None
        self._pace = Pace()
        self._committed = -1

    @property
    def draws(self) -> bool:
        """Whether there is a bar, so that it is worth counting the total."""
        return self._kind == "auto" and sys.stderr.isatty()

    def begin(self, total: int | None) -> None:
        """Draw the bar, if there is one."""
        if self.draws:
            self._pace.note(0, monotonic())
            self._bar = _bar()
            self._bar.add_task("", total=total, pace="")
            self._bar.start()

    def show(self, done: int, committed: int | None = None) -> None:
        """After a batch: `done` of the total; `committed`: rows in the index, where there is one."""
        if self._bar is not None:
            self._pace.note(done, monotonic())
            task = self._bar.tasks[0]
            self._bar.update(task.id, completed=done, pace=self._pace.words(task.total))
        if self._kind == "json" and committed is not None and committed != self._committed:
            self._committed = committed
            print(json.dumps({"committed": committed}), file=sys.stderr, flush=True)  # noqa: T201

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Pace:
    """Items per second over the last batches: earlier ones may have been files without changes."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, float]] = deque(maxlen=16)

    def note(self, done: int, now: float) -> None:
        """`done` items were finished at `now`, in seconds."""
        self._notes.append((done, now))

    def words(self, total: float | None) -> str:
        """Rate and time left: `41.0/s 0:02:10`."""
        (first, since), (last, now) = self._notes[0], self._notes[-1]
        if last <= first or now <= since:
            return ""
        rate = (last - first) / (now - since)
        left = "" if total is None else f" {timedelta(seconds=round(max(0, total - last) / rate))}"
        return f"{rate:.1f}/s{left}"


def _bar() -> "Bar":
    """A bar that disappears when it is done: the summary says the rest."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )
