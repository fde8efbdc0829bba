"""A bundle from a bundle: the same model at other precisions."""

import numpy as np
import onnx
import onnx_ir
import pytest

from tuwen.bundle.bundle import read_bundle
from tuwen.demo import demo_bundle
from tuwen.errors import InvalidInput
from tuwen.exporting.export import export_bundle
from tuwen.exporting.fp16 import full_weights
from tuwen.exporting.graph import Graph, open_model, save


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_weights_of_16_bits_and_back(tiny_bundle, tower, tmp_path) -> None:
    half = onnx_ir.load(tiny_bundle.graphs[tower, "fp16"])
    full = full_weights(Graph(half, 0, 0))
    save(full, tmp_path / "full.onnx")
    model = onnx.load(tmp_path / "full.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert onnx.TensorProto.FLOAT16 not in {tensor.data_type for tensor in model.graph.initializer}
    assert not [node for node in model.graph.node if node.op_type == "Cast" and node.input[0].endswith("_fp16")]
    rng = np.random.default_rng(0)
    feeds = {
        "vision": {"pixel_values": rng.standard_normal((2, 3, 64, 64), dtype=np.float32)},
        "text": {"input_ids": np.array([[49406, 320, 1125, 49407]])},
    }
    ours, theirs = (open_model(graph).run(None, feeds[tower])[0] for graph in (full.model, half))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_same_model_in_half_the_size(tiny_bundle, folder) -> None:
    again = export_bundle(tiny_bundle, folder, ("fp16",), name="small")
    assert (again.precisions, again.manifest.name) == (("fp16",), "small")
    assert again.manifest.fingerprint() == tiny_bundle.manifest.fingerprint()
    assert again.manifest.facts["made_from"] == "fp32"
    assert all(report.passed for report in again.manifest.verify.values())
    ours, theirs = (onnx.load(bundle.graphs["text", "fp16"]) for bundle in (again, tiny_bundle))
    assert len(ours.graph.node) == len(theirs.graph.node)
    assert (folder / "VERIFY.md").is_file()


def test_a_precision_that_is_none(tiny_bundle, folder) -> None:
    with pytest.raises(InvalidInput) as caught:
        export_bundle(tiny_bundle, folder, ("int4",))
    assert caught.value.value == ["int4"]
    assert not folder.exists()


@pytest.mark.long
def test_the_packaged_model_at_int8(folder) -> None:
    """Trained, on pictures and texts that it was not calibrated on; it comes in 16 bits."""
    bundle = export_bundle(read_bundle(demo_bundle()), folder, ("fp32", "int8"))
    checks = [check for check in bundle.manifest.verify["int8"].checks if check.stage in ("image", "text")]
    assert min(check.worst_cosine for check in checks) >= 0.99
    assert bundle.manifest.fingerprint() == read_bundle(demo_bundle()).manifest.fingerprint()
