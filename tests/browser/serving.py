"""`tuwen serve` in a process of its own, as a person starts it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from isolation import COMPUTING


def environment(home: Path) -> dict[str, str]:
    """Nobody's own settings, models or caches."""
    return {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TUWEN_DEFAULT_MODEL": "demo",
        **COMPUTING,
    }


def tuwen(home: Path, *words: str) -> None:
    """One command, to its end."""
    command = [sys.executable, "-m", "tuwen", *words]
    subprocess.run(command, env=environment(home), check=True, capture_output=True)


@contextmanager
def served(home: Path, index: Path, *options: str) -> Iterator[str]:
    """The address of a service of an index, from here to the end of the block."""
    command = [sys.executable, "-m", "tuwen", "serve", "--index", str(index), "--port", "0", "--no-open", "--json"]
    with subprocess.Popen(
        [*command, "--log", "none", *options],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            document = "".join(takewhile(lambda line: line != "}\n", process.stdout))
            yield json.loads(document + "}")["url"]
        finally:
            process.terminate()
            process.wait(20)
