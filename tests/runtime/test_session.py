"""What holds for every runtime behind the seam."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tiny
from runtime.conftest import OpenSession
from tuwen.errors import BundleInvalid, RuntimeUnavailable
from tuwen.runtime.onnxruntime import OnnxRuntimeSession
from tuwen.runtime.openvino import OpenVinoSession
from tuwen.runtime.session import embedding_output
from tuwen.types import Port

pytestmark = pytest.mark.precision

PIXELS = tiny.numbers(9, 5, 3, tiny.SIZE, tiny.SIZE)


def expected(pixels: np.ndarray) -> np.ndarray:
    """The tiny vision tower, written down again in numpy."""
    rows = pixels.reshape(len(pixels), -1) @ (tiny.numbers(1, 192, tiny.WIDTH) / 14)
    embeds = np.tanh(rows) @ tiny.numbers(2, tiny.WIDTH, tiny.DIM)
    return embeds / np.linalg.norm(embeds, axis=1, keepdims=True)


def test_a_graph_is_computed_right(open_session: OpenSession, runtime: str) -> None:
    session = open_session(tiny.vision_graph())
    assert (session.runtime, session.device, session.precision) == (runtime, "cpu", "fp32")
    assert session.inputs == (Port("pixel_values", (None, 3, 8, 8), np.dtype(np.float32)),)
    for pixels in (PIXELS, PIXELS[:1], PIXELS[1:4]):
        output = session.run({"pixel_values": pixels})
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected(pixels), atol=2e-6)


def test_ports_tell_fixed_axes_and_kinds(open_session: OpenSession) -> None:
    session = open_session(tiny.text_graph(batch=1, length=24, wide=False, masked=True))
    kind = np.dtype(np.int32)
    assert session.inputs == (Port("input_ids", (1, 24), kind), Port("attention_mask", (1, 24), kind))


def test_the_embedding_is_chosen_among_outputs(open_session: OpenSession) -> None:
    session = open_session(tiny.vision_graph(hidden_state=True))
    np.testing.assert_allclose(session.run({"pixel_values": PIXELS}), expected(PIXELS), atol=2e-6)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """With float16 in and out, as some converters leave it, and float32 within."""
    graph = model.graph
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    graph.node[0].input[0] = "wide"
    graph.node.insert(0, helper.make_node("Cast", ["pixel_values"], ["wide"], to=TensorProto.FLOAT))
    graph.node[-1].output[0] = "found"
    graph.node.append(helper.make_node("Cast", ["found"], ["image_embeds"], to=TensorProto.FLOAT16))
    onnx.checker.check_model(model, full_check=True)
    return model


def test_float16_in_and_out(open_session: OpenSession) -> None:
    session = open_session(half(tiny.vision_graph()))
    assert session.inputs[0].dtype == np.float16
    output = session.run({"pixel_values": PIXELS.astype(np.float16)})
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, expected(PIXELS), atol=3e-3)


def test_a_result_is_not_overwritten_by_the_next_run(open_session: OpenSession) -> None:
    session = open_session(tiny.vision_graph())
    first = session.run({"pixel_values": PIXELS[:2]})
    kept = first.copy()
    session.run({"pixel_values": -PIXELS[:2]})
    np.testing.assert_array_equal(first, kept)


def test_several_threads_may_run_one_session(open_session: OpenSession) -> None:
    session = open_session(tiny.vision_graph())
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda row: session.run({"pixel_values": PIXELS[row % 5 : row % 5 + 1]}), range(80)))
    np.testing.assert_allclose(np.concatenate(outputs), np.tile(expected(PIXELS), (16, 1)), atol=2e-6)


@pytest.mark.parametrize("content", [b"", b"no graph", tiny.vision_graph().SerializeToString()[:900]])
def test_a_file_that_is_no_graph_is_one_line_that_names_it(runtime: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    kind = OnnxRuntimeSession if runtime == "onnxruntime" else OpenVinoSession
    with pytest.raises(RuntimeUnavailable) as caught:
        kind(path, device="cpu", precision="fp32", threads=1)
    assert (caught.value.where, caught.value.value) == (path, "cpu")
    assert "\n" not in str(caught.value)


def test_a_run_that_fails_is_one_line(open_session: OpenSession) -> None:
    session = open_session(tiny.vision_graph())
    with pytest.raises(RuntimeUnavailable) as caught:
        session.run({"pixel_values": np.zeros((1, 3, 9, 9), np.float32)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ([("anything", 2)], "anything"),
        ([("last_hidden_state", 3), ("pooled", 2)], "pooled"),
        ([("text_embeds", 2), ("logits_per_text", 2)], "text_embeds"),
        ([("last_hidden_state", None), ("image_embeds", None)], "image_embeds"),
    ],
)
def test_which_output_is_the_embedding(outputs: list[tuple[str, int | None]], chosen: str) -> None:
    assert embedding_output(outputs, "graph") == chosen


def test_outputs_that_could_be_anything_are_refused() -> None:
    with pytest.raises(BundleInvalid) as caught:
        embedding_output([("a", 2), ("b", 2)], "graph")
    assert caught.value.where == "graph"
