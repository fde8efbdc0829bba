import onnx
import onnxruntime
import pytest
import torch

from tuwen.exporting import graph
from tuwen.exporting.graph import UnitLength, save, text_graph, vision_graph


class Eye(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.unused = torch.nn.Linear(3, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.conv(pixels).mean((2, 3)) * 10


class Reader(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(50, 8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.words(ids) * mask[..., None]).sum(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def eye(folder):
    tower = Eye()
    path = folder / "onnx" / "vision.onnx"
    exported = vision_graph(tower, (16, 12))
    save(exported, path)
    return tower, path, exported


@pytest.fixture(scope="module")
def reader(folder):
    tower = Reader()
    path = folder / "text.onnx"
    save(text_graph(tower, torch.randint(1, 50, (2, 7)), mask=True), path)
    return tower, path


@pytest.mark.parametrize("n", [1, 5])
def test_pictures_in_batches_of_any_size(eye, n) -> None:
    tower, path, _ = eye
    pixels = torch.randn(n, 3, 16, 12)
    found = onnxruntime.InferenceSession(path).run(["image_embeds"], {"pixel_values": pixels.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), UnitLength(tower)(pixels))
    torch.testing.assert_close(torch.from_numpy(found).norm(dim=1), torch.ones(n))


@pytest.mark.parametrize(("n", "length"), [(1, 1), (1, 9), (6, 3), (2, 2)])
def test_texts_of_any_length(reader, n, length) -> None:
    tower, path = reader
    ids, mask = torch.randint(1, 50, (n, length)), torch.ones(n, length, dtype=torch.int64)
    mask[:, 1:] = torch.randint(0, 2, (n, length - 1))
    feeds = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    found = onnxruntime.InferenceSession(path).run(["text_embeds"], feeds)[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), UnitLength(tower)(ids, mask))


def test_the_published_graph(eye) -> None:
    _, path, exported = eye
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not model.functions
    assert exported.nodes_after == len(model.graph.node) <= exported.nodes_before


def test_no_trace_of_this_machine(eye, reader) -> None:
    for path in (eye[1], reader[1]):
        content = path.read_bytes()
        assert b".py" not in content
        assert b"stack_trace" not in content


def test_weights_of_nobody_are_left_out(eye) -> None:
    assert {value.name for value in onnx.load(eye[1]).graph.initializer if "unused" in value.name} == set()


def test_weights_above_the_limit_lie_beside(eye, folder, monkeypatch) -> None:
    monkeypatch.setattr(graph, "INLINE_BYTES", 100)
    path = folder / "large" / "vision.onnx"
    save(eye[2], path)
    assert (path.parent / "vision.onnx_data").stat().st_size >= 8 * 3 * 16 * 4
    pixels = torch.randn(2, 3, 16, 12).numpy()
    inline, beside = (
        onnxruntime.InferenceSession(where).run(None, {"pixel_values": pixels})[0] for where in (eye[1], path)
    )
    assert (inline == beside).all()
