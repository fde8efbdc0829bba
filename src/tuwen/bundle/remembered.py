"""Small facts kept in the cache folder, each in a JSON file of its own.

A cache that cannot be read or written costs time, not correctness: nothing here raises for it.
"""

import json
import tempfile
from pathlib import Path
from typing import Any


def recall(entry: Path) -> Any:  # noqa: ANN401
    """What was remembered there, or None where nothing was, or what was cannot be read."""
    try:
        return json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def remember(entry: Path, value: object) -> None:
    """Keep `value`: written aside, then renamed, since two processes may remember the same at once."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, encoding="utf-8", delete=False) as file:
            json.dump(value, file)
        Path(file.name).replace(entry)
    except OSError:
        return
