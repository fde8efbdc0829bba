"""Models and checkpoints by name in commands: the download's progress bar, `--offline`, lists of precisions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import click

from tuwen.bundle.manifest import PRECISIONS, Precision
from tuwen.cli import verification as proof
from tuwen.cli.command import say
from tuwen.errors import InvalidInput
from tuwen.progress import Progress

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
    started = 0
    with proof.steps_shown(), Progress(progress) as bar:

        def show(done: int, total: int) -> None:
            nonlocal started
            if started != total:
                say(f"{name}: {total / MIB:,.1f} MiB")
                bar.begin(total // MIB)
                started = total
            bar.show(done // MIB)

        yield show
