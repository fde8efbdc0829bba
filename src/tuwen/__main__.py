"""`python -m tuwen` and the `tuwen` command."""

import os
import sys


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them reads every installed package
    from tuwen.cli.main import main as run

    run()


def _open_closed_streams() -> None:
    """Discard what is written to standard streams that are closed, as after `>&-`.

    Otherwise the next files to be opened would take their place, and receive the output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
