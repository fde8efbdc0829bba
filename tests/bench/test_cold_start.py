"""A model of a few kilobytes, loaded by a process of its own."""

from pathlib import Path

import pytest

import tiny
from tuwen.bench.cold_start import cold_start
from tuwen.bench.targets import bundle_targets
from tuwen.errors import RuntimeUnavailable
from tuwen.settings import Settings


def test_a_process_that_logs_a_lot_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny.write_bundle(tmp_path / "tiny")
    settings = Settings(models=tmp_path, cache=tmp_path)
    (target,) = bundle_targets(bundle, runtimes=["onnxruntime"], precisions=["fp32"], device="cpu", threads=1)
    monkeypatch.setenv("PYTHONVERBOSE", "1")  # more than a pipe holds, before the first vectors
    found = cold_start(target, bundle.folder, settings, 1, 2)
    assert (found.runtime, found.precision) == ("onnxruntime", "fp32")
    assert found.seconds > 0
    with pytest.raises(RuntimeUnavailable) as caught:
        cold_start(target, tmp_path / "none", settings, 1, 2)
    assert caught.value.value == "onnxruntime fp32"
