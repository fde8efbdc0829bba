import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tuwen.exporting.fp16 import half_weights, kept_in_fp32
from tuwen.exporting.graph import Graph, save, text_graph

pytestmark = pytest.mark.precision


class Reader(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(200, 64)
        self.fine = torch.nn.Linear(64, 128, bias=False)
        self.outlying = torch.nn.Linear(128, 64, bias=False)
        self.vanishing = torch.nn.Linear(64, 64, bias=False)
        with torch.no_grad():
            self.outlying.weight[3, 5] = 1e5
            self.vanishing.weight.mul_(1e-8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.vanishing(self.outlying(torch.tanh(self.fine(self.words(ids).sum(1)))))


@pytest.fixture(scope="module")
def full() -> Graph:
    return text_graph(Reader(), torch.randint(0, 200, (2, 7)), mask=False)


@pytest.fixture(scope="module")
def paths(full, tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    save(full, folder / "fp32.onnx")
    save(half_weights(full), folder / "fp16.onnx")
    return folder / "fp32.onnx", folder / "fp16.onnx"


def test_weights_that_overflow_or_vanish_stay_fp32(full, paths) -> None:
    assert kept_in_fp32(full) == ["tower.outlying.weight", "tower.vanishing.weight"]
    types = {value.name: value.data_type for value in onnx.load(paths[1]).graph.initializer if len(value.dims) == 2}
    assert types == {
        "tower.words.weight_fp16": onnx.TensorProto.FLOAT16,
        "tower.fine.weight_fp16": onnx.TensorProto.FLOAT16,
        "tower.outlying.weight": onnx.TensorProto.FLOAT,
        "tower.vanishing.weight": onnx.TensorProto.FLOAT,
    }


def test_a_table_is_cast_after_the_look_up(paths) -> None:
    nodes = {node.op_type: node for node in onnx.load(paths[1]).graph.node if node.op_type in ("Gather", "Cast")}
    casts = [node for node in onnx.load(paths[1]).graph.node if node.op_type == "Cast"]
    assert nodes["Gather"].output[0] in [node.input[0] for node in casts]
    onnx.checker.check_model(onnx.load(paths[1]), full_check=True)


def test_vectors_stay_what_they_were(paths) -> None:
    ids = np.random.default_rng(0).integers(0, 200, (4, 9))
    full, half = (onnxruntime.InferenceSession(path).run(None, {"input_ids": ids})[0] for path in paths)
    assert (full * half).sum(axis=1).min() > 0.9999
    assert (full != half).any()


def test_the_full_graph_is_left_alone(full, paths, tmp_path) -> None:
    save(full, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == paths[0].read_bytes()
