import json

import numpy as np
import onnx
import pytest
import torch

from tuwen.bundle.bundle import read_bundle
from tuwen.errors import BundleInvalid, InvalidInput
from tuwen.exporting.export import export_towers
from tuwen.exporting.samples import TEXTS, built_in
from tuwen.runtime.loading import load_encoder
from tuwen.runtime.selection import Choice


def test_what_is_written(tiny_bundle, tiny_towers) -> None:
    manifest = tiny_bundle.manifest
    assert sorted(manifest.files) == [
        "VERIFY.md",
        "VERIFY.png",
        "canonical.json",
        "config.json",
        "onnx/text_model.onnx",
        "onnx/text_model_fp16.onnx",
        "onnx/vision_model.onnx",
        "onnx/vision_model_fp16.onnx",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (manifest.name, manifest.dim, manifest.image) == ("ViT-B-32/random-0", 32, tiny_towers.image_spec)
    assert manifest.weights_sha256 == tiny_towers.weights_sha256()
    assert manifest.scoring == tiny_towers.scoring
    assert manifest.facts["text_nodes_after"] < manifest.facts["text_nodes_before"] / 2
    assert manifest.facts["text_fp16_kept_fp32"] == 1  # the causal mask: minus infinity


@pytest.mark.parametrize("name", ["tiny", "masked"])
def test_cutting_is_proved(request, name) -> None:
    text = request.getfixturevalue(f"{name}_bundle").manifest.text
    assert (text.cut_exact, text.pad_to) == (True, "longest")


def test_inputs_and_outputs_have_the_names_of_the_layout(tiny_bundle, masked_bundle) -> None:
    for bundle, text_inputs in ((tiny_bundle, ["input_ids"]), (masked_bundle, ["input_ids", "attention_mask"])):
        vision, text = (onnx.load(bundle.graphs[tower, "fp32"]).graph for tower in ("vision", "text"))
        assert [value.name for value in vision.input] == ["pixel_values"]
        assert [value.name for value in vision.output] == ["image_embeds"]
        assert [value.name for value in text.input] == text_inputs
        assert [value.name for value in text.output] == ["text_embeds"]


def test_companions_say_the_same(tiny_bundle) -> None:
    folder = tiny_bundle.folder
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    assert processor["size"] == {"shortest_edge": 64}
    assert processor["crop_size"] == {"height": 64, "width": 64}
    assert processor["image_mean"] == list(tiny_bundle.manifest.image.mean)
    config = json.loads((folder / "config.json").read_text())
    assert np.exp(config["logit_scale_init_value"]) == pytest.approx(tiny_bundle.manifest.scoring.scale)
    assert config["projection_dim"] == 32


def test_the_encoder_makes_the_checkpoint_s_vectors(tiny_bundle, tiny_towers, tmp_path) -> None:
    encoder = load_encoder(str(tiny_bundle.folder), Choice(), models=tmp_path, cache=tmp_path)
    with torch.no_grad():
        vectors = tiny_towers.text(torch.from_numpy(tiny_towers.to_tokens(TEXTS).ids))
    expected = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    found = encoder.encode_texts(TEXTS)
    assert (found * expected).sum(axis=1).min() > (0.999 if encoder.precision == "bf16" else 0.999999)
    assert encoder.encode_images(built_in().images).shape == (9, 32)


def test_half_the_size(tiny_bundle) -> None:
    full, half = (tiny_bundle.graphs["vision", precision].stat().st_size for precision in ("fp32", "fp16"))
    assert half < 0.55 * full


@pytest.mark.parametrize("precisions", [(), ("bf16",), ("fp32", "int4")])
def test_precisions_that_are_none(tiny_towers, folder, precisions) -> None:
    with pytest.raises(InvalidInput) as caught:
        export_towers(tiny_towers, folder, precisions)
    assert caught.value.where == "precisions"
    assert not folder.exists()


def test_a_folder_of_something_else_is_left_alone(tiny_towers, folder) -> None:
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(BundleInvalid):
        export_towers(tiny_towers, folder)
    assert [path.name for path in folder.iterdir()] == ["precious.txt"]


@pytest.mark.long
def test_again_and_at_another_precision(tiny_bundle, tiny_towers, folder) -> None:
    """It replaces the older bundle as a whole, and is the same model."""
    folder.mkdir()
    (folder / "tuwen.json").write_text("{}")
    (folder / "left-over").write_text("")
    again = export_towers(tiny_towers, folder, ("fp16",))
    assert again.precisions == ("fp16",)
    assert again.manifest.fingerprint() == tiny_bundle.manifest.fingerprint()
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "VERIFY.md",
        "VERIFY.png",
        "canonical.json",
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tuwen.json",
    ]
    ours, theirs = (bundle.graphs["vision", "fp16"].read_bytes() for bundle in (read_bundle(folder), tiny_bundle))
    assert ours == theirs
