"""A model of a few kilobytes, loaded by a process of its own."""

from pathlib import Path

import pytest

import tiny
from tuwen.bench.cold_start import start_of
from tuwen.bench.targets import Wanted, contender, plans
from tuwen.errors import RuntimeUnavailable


def test_a_process_that_says_much_is_not_waited_for_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny.write_bundle(tmp_path / "tiny")
    precision, plan = next(plans(bundle, Wanted(("onnxruntime",), ("fp32",), "cpu", 1)))
    alone = contender(bundle, precision, plan, None)
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # more than a pipe holds, before it is ready
    found = start_of(alone, bundle.folder, (tmp_path, tmp_path), 1, 2)
    assert (found.runtime, found.precision) == ("onnxruntime", "fp32")
    assert found.seconds > 0
    with pytest.raises(RuntimeUnavailable, match="onnxruntime fp32 cannot be started alone"):
        start_of(alone, tmp_path / "none", (tmp_path, tmp_path), 1, 2)
