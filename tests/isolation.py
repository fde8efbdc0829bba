"""How everything computes that a test does not say otherwise of, commands in processes of their own included.

Nothing is chosen by measuring this machine, and nothing is read from or written to the user's settings, models and
caches. One thread: the models are tiny, the tests run side by side, and threads that wait for work spin.
"""

import os
from pathlib import Path

COMPUTING = {
    "TUWEN_RUNTIME": "onnxruntime",
    "TUWEN_PRECISION": "fp32",
    "TUWEN_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # some tests import onnxruntime themselves, which reads it then
}
OF_TESTS = ("TUWEN_TEST_", "TUWEN_FLICKR30K", "TUWEN_IMAGENET")
"""beginnings of variables that tell the tests where something is"""


def isolate(folder: Path) -> None:
    """Set it for this process and those that it starts, with a folder in place of the user's."""
    for name in [name for name in os.environ if name.startswith("TUWEN_") and not name.startswith(OF_TESTS)]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each command compiles the package anew
    os.environ |= COMPUTING
    os.environ["TUWEN_CACHE"] = str(folder / "cache")
    os.environ["TUWEN_MODELS"] = str(folder / "models")
    os.environ["TUWEN_SETTINGS"] = str(folder / "settings.toml")
