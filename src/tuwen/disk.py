"""What is written, on the disk itself. Knows what the system can do. Does not know what is in a file."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Put a file's content, or a folder's list of names, on the disk, where the system can.

    A rename that comes after it never precedes what it names, even when the power goes.
    """
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
