"""No command reaches beyond this machine, in Python or below it.

Every journey runs under a recorder of Python's connections (see `conftest.py`). Here the recorder itself is tried,
and commands run once more under `strace`, which sees what native code does.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.journey


def test_the_recorder_sees_names_and_connections(terminal) -> None:
    reaching = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass\n"
    subprocess.run([sys.executable, "-c", reaching], env=terminal.environment, check=True)
    assert terminal.reached() == {"example.invalid"}
    terminal.record.write_text("")


def can_trace() -> bool:
    tool = shutil.which("strace")
    return tool is not None and subprocess.run([tool, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_trace(), reason="strace is not here, or may not trace")
def test_native_code_reaches_nowhere_either(terminal, photos: Path, bundle: Path) -> None:
    commands = [
        ("index", "build", "PHOTOS", "--index", "x", "--model", bundle),
        ("search", "red", "--index", "x", "--sheet", "x.png"),
        ("search", "red", "--index", "x", "--runtime", "onnxruntime"),
        ("classify", "PHOTOS", "--labels", "red,blue", "--model", bundle),
        ("doctor",),
    ]
    trace = terminal.folder / "trace"
    for words in commands:
        traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
        done = subprocess.run(
            [*traced, *terminal.command(*words)],
            cwd=terminal.folder,
            env=terminal.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        reached = set(re.findall(r'inet_(?:addr|pton)\((?:AF_INET6?, )?"([^"]+)"', trace.read_text()))
        assert reached <= {"127.0.0.1", "::1"}, words
