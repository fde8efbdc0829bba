"""Each tested architecture all the way: a checkpoint in, a verified bundle out, read and run without torch."""

import numpy as np
import pytest

from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.exporting.export import export_towers
from tuwen.exporting.samples import TEXTS
from tuwen.models.openclip import load
from tuwen.models.sources import load_source
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.selection import Choice, make_plan, open_session

from .openclip_zoo import TWO, overrides, two_layers, write_layout, write_xlm_roberta

PADDED = {"coca_ViT-B-32", "MobileCLIP2-S0", "MobileCLIP2-S3", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP2"}
"""Their text towers see what pads a text: each has to be padded to the whole context."""


def check_whole(bundle: Bundle, *, cut_exact: bool) -> None:
    """What the manifest says of an exported bundle."""
    report = bundle.manifest.verify["fp32"]
    assert report.passed
    assert {check.runtime for check in report.checks} == {"prepare", "onnxruntime", "openvino"}
    assert max(check.max_abs for check in report.checks if check.precision == "fp32") <= 1e-5
    text, facts = bundle.manifest.text, bundle.manifest.facts
    assert (text.cut_exact, text.pad_to) == (cut_exact, "longest" if cut_exact else "context")
    for tower in ("vision", "text"):
        assert 0 < facts[f"{tower}_nodes_after"] < facts[f"{tower}_nodes_before"]


@pytest.mark.long
def test_a_folder_of_the_hub_to_vectors(tmp_path) -> None:
    """XLM-R's text tower, as the default model for photos has it; and a second export is the same model."""
    (tmp_path / "hub").mkdir()
    write_layout("xlm-roberta-base-ViT-B-32", tmp_path / "hub")
    towers = load_source(str(tmp_path / "hub"))
    bundle = export_towers(towers, tmp_path / "bundle")
    check_whole(bundle, cut_exact=True)
    plan = make_plan(bundle, Choice("onnxruntime", "cpu", "fp32"))
    encoder = Encoder(bundle, lambda tower: open_session(bundle, tower, plan, cache=None), precision=plan.precision)
    together, alone = encoder.encode_texts(TEXTS), [encoder.encode_texts([text])[0] for text in TEXTS]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("architecture", TWO)
def test_architectures(architecture, tmp_path) -> None:
    """At two layers of their real width."""
    (tmp_path / "hub").mkdir()
    bundle = export_towers(two_layers(architecture, tmp_path / "hub"), tmp_path / "bundle")
    check_whole(bundle, cut_exact=architecture not in PADDED)


@pytest.mark.long
def test_more_weights_than_one_file_holds(tmp_path) -> None:
    """Over 2 GB in the text tower, as MetaCLIP 2 has it in its vocabulary of 901,629."""
    (tmp_path / "hub").mkdir()
    write_xlm_roberta(tmp_path / "hub", 64)
    small = {"vision_cfg": {"layers": 2}, "text_cfg": {"layers": 2, "vocab_size": 540_000}}
    towers = load("ViT-H-14-worldwide", folder=tmp_path / "hub", overrides=small)
    check_whole(export_towers(towers, tmp_path / "bundle"), cut_exact=True)
    graph = tmp_path / "bundle" / "onnx" / "text_model.onnx"
    assert graph.stat().st_size < 2**20
    assert graph.with_name(f"{graph.name}_data").stat().st_size > 2**31
    assert "onnx/text_model.onnx_data" in read_bundle(tmp_path / "bundle").manifest.files


@pytest.mark.long
def test_exported_again_it_is_the_same_model(tmp_path) -> None:
    """Named by architecture and tag or by its folder, and over a bundle that is there."""
    (tmp_path / "hub").mkdir()
    write_layout("ViT-B-32", tmp_path / "hub")
    first = export_towers(load_source(str(tmp_path / "hub")), tmp_path / "bundle").manifest
    weights = tmp_path / "hub" / "open_clip_model.safetensors"
    towers = load("ViT-B-32", weights, tag="laion2b_s34b_b79k", overrides=overrides("ViT-B-32", 64))
    second = export_towers(towers, tmp_path / "bundle").manifest
    assert second.fingerprint() == first.fingerprint()
    assert second.files["onnx/text_model.onnx"] == first.files["onnx/text_model.onnx"]
    assert second.files["onnx/vision_model.onnx"] == first.files["onnx/vision_model.onnx"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
