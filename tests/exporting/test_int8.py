"""One tower to int8: right on both runtimes, on any batch, with outlying channels too."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from tuwen.data.pixels import to_pixels
from tuwen.exporting.export import export_towers
from tuwen.exporting.graph import Graph, open_model, save
from tuwen.exporting.int8 import GOOD, Quantized, meeting, noise, quantized, sites, undo
from tuwen.exporting.samples import built_in, drawn
from tuwen.runtime.onnxruntime import OnnxRuntimeSession
from tuwen.runtime.openvino import OpenVinoSession

inject = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "parts" / "outliers.py"))["inject"]


@pytest.fixture(scope="module")
def pixels(tiny_bundle) -> dict[str, np.ndarray]:
    spec = tiny_bundle.manifest.image
    return {"calibration": to_pixels(spec, drawn(16)), "checked": to_pixels(spec, built_in().images)}


@pytest.fixture(scope="module")
def full(tiny_bundle) -> onnx.ModelProto:
    return onnx.load(tiny_bundle.graphs["vision", "fp32"])


@pytest.fixture(scope="module")
def small(full, pixels) -> Quantized:
    return to_int8(full, pixels)


def to_int8(model: onnx.ModelProto, pixels) -> Quantized:
    graph = Graph(onnx_ir.from_proto(model), 0, 0)
    calibration = [{"pixel_values": row[None]} for row in pixels["calibration"]]
    return quantized(graph, calibration, [{"pixel_values": pixels["checked"]}])


def worst_cosines(model: onnx.ModelProto, small: Quantized, checked: np.ndarray, path) -> list[float]:
    """To the full graph's vectors, on each runtime with its own kernels of 8 bits."""
    save(small.graph, path)
    expected = open_model(onnx_ir.from_proto(model)).run(None, {"pixel_values": checked})[0]
    sessions = [
        OnnxRuntimeSession(path, device="cpu", precision="int8", threads=1),
        OpenVinoSession(path, device="cpu", precision="int8", threads=1),
    ]
    found = [session.run({"pixel_values": checked}) for session in sessions]
    alone = [session.run({"pixel_values": checked[:1]}) for session in sessions]
    for vectors, first in zip(found, alone, strict=True):
        np.testing.assert_allclose(vectors[:1], first, atol=1e-6)
    return [float((vectors * expected).sum(axis=1).min()) for vectors in found]


def test_good_on_both_runtimes_alone_and_among_others(full, small, pixels, tmp_path) -> None:
    assert min(worst_cosines(full, small, pixels["checked"], tmp_path / "small.onnx")) >= GOOD
    assert small.worst_cosine >= GOOD


def test_plain_onnx(small) -> None:
    model = onnx_ir.to_proto(small.graph.model)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    onnx.checker.check_model(model, full_check=True)
    large = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) >= 64 * 64]
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.INT8}


def test_a_product_of_two_activations_is_computed_in_fp32(small) -> None:
    """Queries by keys, and attention by values: what they multiply was not rounded, wherever it was reshaped since."""
    products = [list(map(made_by, node.inputs)) for node in small.graph.model.graph if node.op_type == "MatMul"]
    weighted = [made for made in products if is_weight(made[1])]
    between = [made for made in products if not is_weight(made[1])]
    blocks = sum(node.op_type == "Softmax" for node in small.graph.model.graph)
    assert blocks > 0
    assert len(between) == 2 * blocks
    assert not any(node.op_type == "DequantizeLinear" for made in between for node in made)
    assert any(made[0].op_type == "DequantizeLinear" for made in weighted)


def made_by(value: onnx_ir.Value) -> onnx_ir.Node:
    """The node that computed a value, before it was reshaped or transposed."""
    node = value.producer()
    while node.op_type in ("Reshape", "Transpose"):
        node = node.inputs[0].producer()
    return node


def is_weight(made: onnx_ir.Node) -> bool:
    return made.op_type == "DequantizeLinear" and made.inputs[0].producer() is None


@pytest.mark.parametrize("moved", [False, True])
def test_activations_that_meet_in_a_product_are_found(moved) -> None:
    last = "y_moved" if moved else "y_back"
    nodes = [
        onnx.helper.make_node("Transpose", ["y_back"], ["y_moved"], name="move"),
        onnx.helper.make_node("MatMul", ["x_back", last], ["z"], name="both"),
    ]
    for name in "xy":
        nodes.insert(0, onnx.helper.make_node("DequantizeLinear", [f"{name}_8", "scale"], [f"{name}_back"]))
        nodes.insert(0, onnx.helper.make_node("QuantizeLinear", [name, "scale"], [f"{name}_8"]))
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in "xyz"]
    scale = onnx.numpy_helper.from_array(np.float32(0.1), "scale")
    made = onnx.helper.make_graph(nodes if moved else [*nodes[:4], nodes[5]], "g", values[:2], values[2:], [scale])
    model = onnx_ir.from_proto(onnx.helper.make_model(made))
    assert sorted(meeting(model)) == (["both", "move"] if moved else ["both", "both"])
    undo(model, meeting(model))
    assert sites(model) == []


def test_weights_that_are_multiplied_turned_and_unturned() -> None:
    random = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w"], ["one"], transB=1, name="unturned"),
        onnx.helper.make_node("Transpose", ["w"], ["w_turned"], perm=[1, 0]),
        onnx.helper.make_node("Unsqueeze", ["x", "axis"], ["rows"]),
        onnx.helper.make_node("MatMul", ["rows", "w_turned"], ["products"], name="turned"),
        onnx.helper.make_node("ReduceMean", ["products", "axis"], ["other"], keepdims=0),
        onnx.helper.make_node("Add", ["one", "other"], ["sum"]),
        onnx.helper.make_node("LpNormalization", ["sum"], ["y"], axis=1, p=2),
    ]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 16]) for name in "xy"]
    weights = random.standard_normal((16, 16)).astype(np.float32)
    constants = [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(np.array([1]), "axis")]
    made = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    feeds = [{"x": random.standard_normal((1, 16)).astype(np.float32)} for _ in range(16)]
    done = quantized(Graph(onnx_ir.from_proto(model), 0, 0), feeds[:8], feeds[8:])
    assert done.worst_cosine >= 0.99


def test_the_recipe(small) -> None:
    recipe = small.recipe()
    assert (recipe["smoothquant_alpha"], recipe["calibrated_on"]) == (0.6, 16)
    assert len(str(recipe["calibration_sha256"])) == 64


def test_outlying_channels(full, pixels, tmp_path) -> None:
    outlying = onnx.ModelProto()
    outlying.CopyFrom(full)
    assert inject(outlying) >= 4
    vectors = [
        open_model(onnx_ir.from_proto(model)).run(None, {"pixel_values": pixels["checked"]})[0]
        for model in (full, outlying)
    ]
    np.testing.assert_allclose(*vectors, atol=1e-5)
    cosines = worst_cosines(full, to_int8(outlying, pixels), pixels["checked"], tmp_path / "outlying.onnx")
    assert min(cosines) >= 0.99


def test_rounding_undone_where_it_costs_most(small, pixels) -> None:
    feeds = [{"pixel_values": pixels["checked"]}]
    costs = noise(small.graph.model, feeds)
    found = sites(small.graph.model)
    assert costs.keys() == {site.name for site in found}
    assert 0 < max(costs.values()) < 0.05
    worst = max(costs, key=lambda name: costs[name])
    model = small.graph.model.clone()
    undo(model, [worst])
    assert worst not in noise(model, feeds)
    assert len(sites(model)) == len(found) - 1
    undo(model, costs)
    assert sites(model) == []
    open_model(model)


@pytest.mark.long
def test_nncf_sends_nothing() -> None:
    """In a process of its own: beside pytest it would keep quiet anyway."""
    code = """
import socket, sys
socket.getaddrinfo = lambda *name, **_: sys.exit(f"asked for {name}")
from tuwen.exporting.int8 import _quiet
with _quiet():
    from nncf.telemetry import telemetry
assert type(telemetry).__name__ == "MagicMock"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.long
def test_all_precisions_of_a_bundle(tiny_towers, tmp_path) -> None:
    bundle = export_towers(tiny_towers, tmp_path / "bundle", ("fp32", "fp16", "int8"))
    assert bundle.precisions == ("fp32", "fp16", "int8")
    checks = [check for check in bundle.manifest.verify["int8"].checks if check.precision == "int8"]
    assert {check.runtime for check in checks} == {"onnxruntime", "openvino"}
    assert min(check.worst_cosine for check in checks if check.stage in ("image", "text")) >= 0.99
    assert bundle.manifest.facts["text_int8_calibrated_on"] > 30
