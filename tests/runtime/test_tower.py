from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.errors import BundleInvalid, RuntimeUnavailable
from tuwen.runtime.onnxruntime import OnnxRuntimeSession
from tuwen.runtime.session import Session
from tuwen.runtime.tower import LazyTower, is_mask

pytestmark = pytest.mark.precision

PIXELS = tiny.numbers(3, 2, 3, tiny.SIZE, tiny.SIZE)


def tower_of(bundle: Bundle, graph: onnx.ModelProto, folder: Path) -> LazyTower:
    onnx.save(graph, folder / "graph.onnx")
    session = OnnxRuntimeSession(folder / "graph.onnx", device="cpu", precision="fp32", threads=1)
    return LazyTower(bundle, "vision", lambda _: session)


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def test_inputs_are_told_apart(bundle: Bundle, tmp_path: Path) -> None:
    tower = tower_of(bundle, tiny.text_graph(masked=True, token_types=True), tmp_path)
    ids, beside = tower.text_ports()
    assert ids.name == "input_ids"
    assert {port.name: is_mask(port) for port in beside} == {"attention_mask": True, "token_type_ids": False}
    with pytest.raises(BundleInvalid) as caught:
        tower.pixel_port()
    assert caught.value.value == ["input_ids", "attention_mask", "token_type_ids"]


def test_a_batch_that_the_graph_insists_on_is_filled_and_its_rest_dropped(bundle: Bundle, tmp_path: Path) -> None:
    free = tower_of(bundle, tiny.vision_graph(), tmp_path)
    fixed = tower_of(bundle, tiny.vision_graph(batch=5), tmp_path)
    vectors = fixed.run({fixed.pixel_port(): PIXELS})
    assert vectors.shape == (2, tiny.DIM)
    np.testing.assert_allclose(vectors, free.run({free.pixel_port(): PIXELS}), atol=1e-6)


def test_values_become_what_the_graph_takes(bundle: Bundle, tmp_path: Path) -> None:
    tower = tower_of(bundle, tiny.vision_graph(), tmp_path)
    port = tower.pixel_port()
    expected = tower.run({port: PIXELS})
    turned = np.asfortranarray(PIXELS.astype(np.float64))
    np.testing.assert_array_equal(tower.run({port: turned}), expected)


def test_a_tower_that_cannot_be_opened_is_tried_again(bundle: Bundle, tmp_path: Path) -> None:
    onnx.save(tiny.vision_graph(), tmp_path / "graph.onnx")
    tries = []

    def open_session(tower: str) -> Session:
        tries.append(tower)
        if len(tries) == 1:
            raise RuntimeUnavailable("busy")
        return OnnxRuntimeSession(tmp_path / "graph.onnx", device="cpu", precision="fp32", threads=1)

    tower = LazyTower(bundle, "vision", open_session)
    with pytest.raises(RuntimeUnavailable, match="busy"):
        tower.pixel_port()
    assert tower.pixel_port().name == "pixel_values"
    assert tower.name == "the vision tower of tiny on onnxruntime cpu"
    assert tries == ["vision", "vision"]
