"""Models and checkpoints by name in commands: the download's progress bar, `--offline`, lists of precisions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import click

from tuwen.bundle.hub import Choose
from tuwen.bundle.manifest import PRECISIONS, Precision
from tuwen.cli import verification as proof
from tuwen.cli.command import say
from tuwen.errors import InvalidInput
from tuwen.exporting.sources import download
from tuwen.progress import Progress
from tuwen.settings import Settings

MIB = 2**20

offline = click.option("--offline", is_flag=True, help="Do not ask the hub; also the setting TUWEN_OFFLINE.")


def listed(precisions: str) -> list[Precision]:
    """The precisions in a list with commas.

    Raises:
        InvalidInput: one of them is unknown.
    """
    words = [word.strip() for word in precisions.split(",")]
    if unknown := [word for word in words if word not in PRECISIONS]:
        raise InvalidInput(f"there is no precision {', '.join(unknown)}: choose of {', '.join(PRECISIONS)}")
    return cast("list[Precision]", words)


@contextmanager
def shown(name: str, progress: str = "auto") -> Iterator[Callable[[int, int], None]]:
    """A progress bar of a download; within the block, the function that moves it."""
    started = False
    with proof.steps_shown(), Progress(progress) as bar:

        def show(done: int, total: int) -> None:
            nonlocal started
            if not started:
                say(f"{name}: {total / MIB:,.1f} MiB")
                bar.begin(total // MIB)
                started = True
            bar.show(done // MIB)

        yield show


def bring(name: str, choose: Choose, settings: Settings, *, offline: bool, progress: str = "auto") -> Path:
    """Download a repository's files with a progress bar; see `tuwen.exporting.sources.download`."""
    with shown(name, progress) as show:
        return download(name, choose, settings, offline=offline, on_progress=show)
