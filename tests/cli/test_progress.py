import json
import os
import pty
import re
import subprocess
import sys

import pytest

from tuwen.progress import Pace, Progress

DRAWING = """
import time
from tuwen.progress import Progress
with Progress("auto") as shown:
    shown.begin(200)
    for done in (50, 100, 150):
        time.sleep(0.2)
        shown.show(done, done)
"""


def on_a_terminal(code: str) -> str:
    """What a program draws on standard error when that is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        try:
            while piece := os.read(ours, 65536):
                drawn += piece
        except OSError:  # how Linux says that the other side is closed
            pass
        assert process.wait() == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())


def test_a_bar_with_rate_and_time_left_on_a_terminal() -> None:
    drawn = on_a_terminal(DRAWING)
    assert re.search(r"100/200 \S+ +\d+\.\d/s 0:00:0[01]", drawn)


def test_no_bar_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("auto") as shown:
        assert not shown.draws
        shown.begin(10)
        shown.show(5, 5)
    assert capsys.readouterr().err == ""


def test_a_line_a_write_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("json") as shown:
        shown.begin(None)
        for rows in (0, 32, 32, 64):
            shown.show(rows, rows)
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == [
        {"committed": 0},
        {"committed": 32},
        {"committed": 64},
    ]


def test_the_pace_is_that_of_the_last_batches() -> None:
    pace = Pace()
    pace.note(0, 0.0)
    assert pace.words(100) == ""
    pace.note(100_000, 1.0)
    for second in range(1, 40):
        pace.note(100_000 + 10 * second, 1.0 + second)
    assert pace.words(100_000 + 390 + 600) == "10.0/s 0:01:00"
    assert pace.words(None) == "10.0/s"
