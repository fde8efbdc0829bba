"""A small disk for a test, and filling it. Needs the right to mount."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An ext4 file system of its own, in a file: 64 MiB unless the test is parametrised."""
    size, image, folder = getattr(request, "param", 64), tmp_path / "disk", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(size * 2**20)
    for command in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, folder]):
        if (
            shutil.which(str(command[0])) is None
            or subprocess.run(command, check=False, capture_output=True).returncode
        ):
            pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, leave: int = 0) -> None:
    """Fill a disk by other files, to the last block."""
    free = shutil.disk_usage(disk).free
    with (disk / "others").open("wb") as file:
        if free > leave:
            os.posix_fallocate(file.fileno(), 0, max(1, free - leave - 2**20))
    number = 0
    while shutil.disk_usage(disk).free > leave:
        try:
            (disk / f"other-{number}").write_bytes(b"x" * min(65536, shutil.disk_usage(disk).free - leave or 1))
        except OSError:
            break
        number += 1
