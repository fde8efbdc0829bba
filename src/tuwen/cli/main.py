"""`tuwen`: the table of commands.

Knows the commands' names and files. Does not know what they do, nor how a command ends: see `ending.py`.
"""

import sys

import click

from tuwen import __version__
from tuwen.cli.command import LazyGroup, exit_code

COMMANDS = {
    "bench": "tuwen.cli.bench",
    "calibrate": "tuwen.cli.calibrate",
    "classify": "tuwen.cli.classify",
    "convert": "tuwen.cli.convert",
    "demo": "tuwen.cli.demo",
    "doctor": "tuwen.cli.doctor",
    "embed": "tuwen.cli.embed",
    "export": "tuwen.cli.export",
    "index": "tuwen.cli.index",
    "models": "tuwen.cli.models",
    "pull": "tuwen.cli.pull",
    "run": "tuwen.cli.run",
    "search": "tuwen.cli.search",
    "serve": "tuwen.cli.serve",
    "train": "tuwen.cli.train",
    "verify": "tuwen.cli.verify",
}
"""In which file each command is."""


@click.command(
    cls=LazyGroup,
    files=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "tuwen demo",
        "tuwen index build PHOTOS/ --index photos.tuwen",
        'tuwen search "一只狗在草地上" --index photos.tuwen',
    ),
)
@click.version_option(__version__, "--version", prog_name="tuwen", message="%(prog)s %(version)s")
def tuwen() -> None:
    """Search pictures by what is in them: from a CLIP checkpoint to an index, each step proved."""


def main() -> None:
    """Run the command line with this process' arguments, and leave with the command's exit code."""
    sys.exit(exit_code(lambda: tuwen.main(prog_name="tuwen", standalone_mode=False)))
