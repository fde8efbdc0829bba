"""What every test may use. Imports nothing heavy: a room's own fixtures stand in the room's own conftest."""

import os
import signal
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests import onnxruntime themselves, which reads it then
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # commands under test inherit it, and are sent Ctrl-C

pytest_plugins = ["photo_fixtures"]
ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures, captions and vectors that are not part of the project; skips where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the optional folder ../shared/data (real pictures and vectors) is not here")
    return SHARED_DATA
