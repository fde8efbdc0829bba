"""What decoding at reduced scale does to a model's vectors is measured at export, and decides how it decodes."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import REDUCED_DECODING
from tuwen.exporting.decoding import reduced_decoding_cosine
from tuwen.exporting.export import export_bundle
from tuwen.runtime.encoder import REDUCED_COSINE, Encoder


def decodes_at_reduced_scale(bundle: Bundle) -> bool:
    return Encoder(bundle, lambda _: pytest.fail("not needed"), precision="fp32").reading.near is not None


def test_measured_and_recorded(tiny_bundle) -> None:
    recorded = tiny_bundle.manifest.facts[REDUCED_DECODING]
    assert recorded == pytest.approx(reduced_decoding_cosine(tiny_bundle), abs=1e-7)
    assert REDUCED_COSINE <= recorded <= 1 + 1e-6
    assert decodes_at_reduced_scale(tiny_bundle)


def test_recorded_when_a_bundle_is_exported_again(tiny_bundle, folder) -> None:
    facts = {name: value for name, value in tiny_bundle.manifest.facts.items() if name != REDUCED_DECODING}
    older = replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"facts": facts}))
    assert decodes_at_reduced_scale(older), "where nothing was measured"
    again = export_bundle(older, folder, ("fp32",), verify=False)
    assert again.manifest.facts[REDUCED_DECODING] == tiny_bundle.manifest.facts[REDUCED_DECODING]


def test_a_model_that_sees_single_levels(tiny_bundle, tmp_path) -> None:
    """Pixels minus their mean over a large window, many times over: what is left is what reduced scale changes."""
    graph = onnx.load(tiny_bundle.graphs["vision", "fp32"])
    smooth = onnx.helper.make_node("AveragePool", ["pixel_values"], ["smooth"], kernel_shape=[3, 3], pads=[1] * 4)
    detail = onnx.helper.make_node("Sub", ["pixel_values", "smooth"], ["detail"])
    large = onnx.helper.make_node("Mul", ["detail", "hundred"], ["large"])
    for node in graph.graph.node:
        node.input[:] = ["large" if name == "pixel_values" else name for name in node.input]
    for place, node in enumerate((smooth, detail, large)):
        graph.graph.node.insert(place, node)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(100), "hundred"))
    onnx.save(graph, tmp_path / "sharp.onnx")
    graphs = {**tiny_bundle.graphs, ("vision", "fp32"): tmp_path / "sharp.onnx"}
    sharp = replace(tiny_bundle, graphs=graphs)
    found = reduced_decoding_cosine(sharp)
    assert found < REDUCED_COSINE
    facts = {**tiny_bundle.manifest.facts, REDUCED_DECODING: found}
    assert not decodes_at_reduced_scale(replace(sharp, manifest=sharp.manifest.model_copy(update={"facts": facts})))


def test_what_decodes_at_full_scale_still_converts_colours(tiny_bundle) -> None:
    facts = {**tiny_bundle.manifest.facts, REDUCED_DECODING: 0.9999}
    bundle = replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"facts": facts}))
    readings = [
        Encoder(bundle, lambda _: pytest.fail("not needed"), precision="fp32", exact_decode=exact).reading
        for exact in (False, True)
    ]
    assert [(reading.near, reading.srgb) for reading in readings] == [(None, True), (None, False)]
