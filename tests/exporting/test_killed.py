"""`tuwen export` killed outright, at every step that takes time, leaves what stood there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tuwen.bundle.bundle import read_bundle
from tuwen.exporting.export import export_towers

from . import checkpoints

EXPORT = """
import logging, sys
from pathlib import Path
from tuwen.exporting.export import export_towers
sys.path.insert(0, sys.argv[1])
from exporting import checkpoints
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
export_towers(checkpoints.causal(seed=1), Path(sys.argv[2]))
"""


@pytest.mark.long
@pytest.mark.parametrize("step", ["vision tower:", "text tower:"])
def test_an_export_that_is_killed(tmp_path: Path, step: str) -> None:
    folder = tmp_path / "bundle"
    before = export_towers(checkpoints.causal(seed=0), folder).manifest
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", EXPORT, tests, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert any(line.startswith(step) for line in process.stdout)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert read_bundle(folder).manifest == before
    after = export_towers(checkpoints.causal(seed=1), folder).manifest
    assert read_bundle(folder).manifest == after
    assert after.fingerprint() != before.fingerprint()
