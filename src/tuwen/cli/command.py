"""Commands and groups that show examples in their help, and import what they need when they are named.

Knows click. Does not know any command.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click


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
    """A group whose commands are imported when needed: a table says in which file each of them is.

    The command `some-name` is the function `some_name` of its file.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        files: Mapping[str, str],
        examples: Sequence[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.files = files
        self.examples = tuple(examples)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, sorted."""
        return sorted(self.files)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, or None."""
        if cmd_name not in self.files:
            return None
        command = getattr(import_module(self.files[cmd_name]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
