from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import tiny
from tuwen.runtime.onnxruntime import OnnxRuntimeSession
from tuwen.runtime.openvino import OpenVinoSession
from tuwen.runtime.session import Session

OpenSession = Callable[[onnx.ModelProto], Session]


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_session(runtime: str, tmp_path: Path) -> OpenSession:
    """A graph on each of the runtimes, in fp32 on the CPU."""

    def opened(model: onnx.ModelProto, **options: Any) -> Session:
        path = tmp_path / "graph.onnx"
        onnx.save(model, path)
        kind = OnnxRuntimeSession if runtime == "onnxruntime" else OpenVinoSession
        return kind(path, **({"device": "cpu", "precision": "fp32", "threads": 2} | options))

    return opened


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("models") / "tiny").folder
