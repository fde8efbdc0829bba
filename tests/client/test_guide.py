"""The examples of docs/en/client.md, in order, on a service with a part of the packaged gallery."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import tuwen
from isolation import COMPUTING
from server.serving import Served

GUIDE = Path(__file__).parents[2] / "docs" / "en" / "client.md"
BLOCK = re.compile(r"^```(console|py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every example: the words of a shell, or of Python. `tuwen serve` is running already."""
    found: list[tuple[str, str]] = []
    for language, block in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        lines = [block] if language == "py" else [line for line in block.splitlines() if "tuwen serve" not in line]
        found += [(language, line) for line in lines]
    return found


def test_every_example_runs(served: Served, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(sorted(photos.iterdir())[0], tmp_path / "more")
    shutil.copy(sorted(photos.rglob("*.*"))[7], tmp_path / "cat.jpg")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    package = str(Path(tuwen.__file__).parents[1])
    environment = COMPUTING | {"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": package, "LANG": "C.UTF-8"}
    assert len(commands()) > 5
    for language, text in commands():
        program = [sys.executable, "-c"] if language == "py" else ["bash", "-euc"]
        command = [*program, text.replace("http://127.0.0.1:8000", served.url.rstrip("/"))]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
