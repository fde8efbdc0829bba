"""How commands are shown and how they end: examples in the help, lazy import, errors in one line, exit codes."""

import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import click

from tuwen.errors import TuwenError
from tuwen.index.space import is_disk_full


class Command(click.Command):
    """A command whose help ends with examples, each in its own line."""

    def __init__(self, *args: Any, examples: Sequence[str], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is named, and writes its help without importing any.

    The command `some-name` is the function `some_name` of its module.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        commands: Mapping[str, tuple[str, str]],
        examples: Sequence[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = commands
        self.examples = tuple(examples)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, sorted."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, or None."""
        if cmd_name not in self.table:
            return None
        command = getattr(import_module(self.table[cmd_name][0]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name][1]) for name in self.list_commands(ctx)])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


REJECTED = 3
"""the exit code of a command that is done except for the inputs that it lists as rejected"""

FULL_BELOW = 2**20
"""the free bytes below which a disk is called full"""

INTERRUPTED = 130
"""the exit code after Ctrl-C: 128 + SIGINT, as in shells"""


def exit_code(run: Callable[[], object]) -> int:
    """Run a command and return its exit code; an error is printed to standard error in one line.

    Args:
        run: the command; an int that it returns is the exit code, otherwise 0.
    """
    _never_fail_to_print()
    try:
        code = run()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return _ended(error)
    return code if isinstance(code, int) else 0


def _ended(error: BaseException) -> int:
    code = 1
    if isinstance(error, click.ClickException):
        error.show()
        code = error.exit_code
    elif isinstance(error, click.Abort | KeyboardInterrupt):
        say("stopped")
        code = INTERRUPTED
    elif isinstance(error, BrokenPipeError | SystemExit):  # click exits where a pipe is closed, only there
        code = _quiet()
    elif isinstance(error, TuwenError):
        say(f"error: {' '.join(str(error).splitlines())}")
        code = error.exit_code
    elif isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else full_disks() if is_disk_full(error) else ""
        say(f"error: {error.strerror or error}{where}")
    else:
        _bug(error)
    return code


def full_disks() -> str:
    """The paths among the command's arguments, and the folders written to besides, whose disks are full.

    An error of writing to an open file does not say which.
    """
    from tuwen.settings import read_settings  # imports pydantic, which `tuwen --help` does not need

    settings = read_settings()
    named = [Path(word.partition("=")[2] or word) for word in sys.argv[1:]]
    folders = [*named, *(path.parent for path in named), settings.cache, settings.models, Path(gettempdir())]
    there = dict.fromkeys(folder.absolute() for folder in folders if os.path.exists(folder))  # noqa: PTH110  (pathlib's raises)
    free = {folder: shutil.disk_usage(folder).free for folder in there}
    full = ", ".join(f"{folder} ({size:,} bytes free)" for folder, size in free.items() if size < FULL_BELOW)
    return f": {full}" if full else ""


def say(line: str) -> None:
    """Print one line to standard error, as `tuwen: …`."""
    print(f"tuwen: {line}", file=sys.stderr)  # noqa: T201


@contextmanager
def steps_shown() -> Iterator[None]:
    """Within the block, tuwen's log messages of level INFO are printed to standard error."""
    log, handler = logging.getLogger("tuwen"), _Printed()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Printed(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _never_fail_to_print() -> None:
    """Print characters that the terminal's encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _quiet() -> int:
    """A closed pipe (`| head`) is not an error, and Python must not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _bug(error: BaseException) -> None:
    first = (str(error).splitlines() or [""])[0]
    say(f"this is a bug in tuwen: {type(error).__name__}: {first} (TUWEN_TRACEBACK=1 shows where it happened)")
    if os.environ.get("TUWEN_TRACEBACK"):
        traceback.print_exception(error)
