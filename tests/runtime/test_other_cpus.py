"""What depends on the CPU's features holds on other CPUs too: the tests marked `precision`, run with other features."""

import subprocess
import sys
from pathlib import Path

import pytest
from openvino import Core


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "features",
    ["", "avx2,avx512,vnni", "avx2,avx512,vnni,avx512_bf16,amx,amx_bf16"],
    ids=["none", "without-bf16", "bf16"],
)
def test_on_a_cpu_with_other_features(features: str, root: Path) -> None:
    if "bf16" in features and "BF16" not in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("OpenVINO cannot compute in bf16 on this CPU, not even emulated")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "precision and not long",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "-q", "--cpu-features", features, "tests/runtime", "tests/exporting", "tests/bench"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
