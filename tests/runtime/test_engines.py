import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime import engines

USE_BOTH = """
from tuwen.runtime.engines import import_onnxruntime, import_openvino
import sys
onnxruntime, openvino = import_onnxruntime(), import_openvino()
onnxruntime.SessionOptions()
openvino.Core()
assert sys.modules["openvino_telemetry"] is None
"""


def run_at_home(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` as a person would: no sign of continuous integration or of tests, which silence telemetry."""
    noisy = {
        name: value for name, value in os.environ.items() if not name.startswith(("CI", "ORT_", "PYTEST", "GITHUB"))
    }
    environment = noisy | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_engines_leave_no_device_id_and_no_events_behind(tmp_path: Path) -> None:
    result = run_at_home(USE_BOTH, tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.rglob("*")) == []


def test_a_process_that_imported_onnxruntime_before_us_still_works(tmp_path: Path) -> None:
    result = run_at_home(
        "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import onnxruntime\n" + USE_BOTH, tmp_path
    )
    assert result.returncode == 0, result.stderr


def test_children_inherit_the_silence() -> None:
    engines.import_onnxruntime()
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == "1"


def test_an_engine_that_does_not_load_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailable) as caught:
        engines.import_openvino()
    assert (caught.value.value, caught.value.hint) == ("openvino", "pip install openvino")
