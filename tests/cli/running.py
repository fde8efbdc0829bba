"""A command run in this process, as a terminal would have it."""

import sys

from click.testing import CliRunner, Result

from tuwen.cli.command import exit_code
from tuwen.cli.main import tuwen


def run(*arguments: object) -> Result:
    """The command with its exit code, as `main` gives it; standard error apart."""
    runner = CliRunner()
    with runner.isolation() as streams:
        code = exit_code(lambda: tuwen.main([str(a) for a in arguments], prog_name="tuwen", standalone_mode=False))
        sys.stderr.flush()
        out, err = streams[0].getvalue(), streams[1].getvalue()
    return Result(runner, out, err, out + err, None, code, None)
