"""Layouts of others, read as they are published; the graphs are tiny."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

import tiny
from bundle.published import CHINESE, CLIP, CLIP_MEAN, CLIP_STD, FIXED, IMMICH, SIGLIP, SIZE
from tuwen.bundle.foreign import is_foreign, read_foreign
from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import BundleInvalid, BundleNotFound


def write(folder: Path, configs: dict[str, dict[str, Any]], graphs: dict[str, onnx.ModelProto]) -> Path:
    for name, values in configs.items():
        tiny.write_json(folder / name, values)
    for name, graph in graphs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        onnx.save(graph, folder / name)
    textual = folder / "textual"
    (textual if textual.exists() else folder).joinpath("tokenizer.json").write_bytes(tiny.tokenizer_json())
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    graphs = {
        "onnx/vision_model.onnx": tiny.vision_graph(normalised=False),
        "onnx/text_model.onnx": tiny.text_graph(normalised=False),
    }
    return write(tmp_path / "clip", CLIP, graphs)


@pytest.fixture
def chinese(tmp_path: Path) -> Path:
    graphs = {
        "onnx/vision_model.onnx": tiny.vision_graph(normalised=False),
        "onnx/text_model.onnx": tiny.text_graph(masked=True, token_types=True, normalised=False),
    }
    return write(tmp_path / "chinese", CHINESE, graphs)


@pytest.fixture
def siglip(tmp_path: Path) -> Path:
    graphs = {
        "onnx/vision_model.onnx": tiny.vision_graph(normalised=False, hidden_state=True),
        "onnx/text_model.onnx": tiny.text_graph(causal=False, normalised=False),
    }
    return write(tmp_path / "siglip", SIGLIP, graphs)


@pytest.fixture
def immich(tmp_path: Path) -> Path:
    graphs = {
        "visual/model.onnx": tiny.vision_graph(batch=1, name="image"),
        "textual/model.onnx": tiny.text_graph(**FIXED, wide=False, name="text"),
    }
    return write(tmp_path / "ViT-B-32__openai", IMMICH, graphs)


def change(folder: Path, file: str, /, drop: str = "", **changes: Any) -> None:
    values = json.loads((folder / file).read_text()) | changes
    values.pop(drop, None)
    tiny.write_json(folder / file, values)


def test_clip_of_hugging_face(clip: Path) -> None:
    bundle = read_foreign(clip)
    manifest = bundle.manifest
    assert is_foreign(clip)
    assert (manifest.name, manifest.family, manifest.source) == ("clip", "foreign", "openai/clip-vit-base-patch32")
    assert manifest.dim == tiny.DIM
    assert manifest.image == ImageSpec(
        size=(tiny.SIZE, tiny.SIZE),
        resize="shortest",
        crop_rounding="floor",
        mean=tuple(CLIP_MEAN),
        std=tuple(CLIP_STD),
    )
    text = manifest.text
    assert (text.cleaning, text.context_length, text.pad_to, text.mask) == ("none", tiny.CONTEXT, "longest", False)
    assert (text.pad_id, text.end_id) == (tiny.END, tiny.END)
    assert not text.cut_exact, "that is proved, never assumed"
    assert bundle.precisions == ("fp32",)


def test_chinese_clip_squashes_and_masks(chinese: Path) -> None:
    manifest = read_foreign(chinese).manifest
    assert (manifest.image.resize, manifest.image.size) == ("squash", (tiny.SIZE, tiny.SIZE))
    text = manifest.text
    assert (text.context_length, text.mask, text.pad_id, text.end_id) == (512, True, tiny.END - 1, tiny.END)


def test_siglip_squashes_and_pads_to_the_context(siglip: Path) -> None:
    manifest = read_foreign(siglip).manifest
    assert (manifest.image.resize, manifest.image.mean) == ("squash", (0.5, 0.5, 0.5))
    assert (manifest.text.pad_to, manifest.dim) == ("context", tiny.DIM)


@pytest.mark.parametrize(("layout", "context", "dim"), [("clip", 77, tiny.DIM), ("siglip", 64, 768)])
def test_what_transformers_leaves_out_is_as_usual(
    layout: str, context: int, dim: int, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(layout)
    kinds = {name: {"model_type": f"{layout}_{name}_model"} for name in ("text", "vision")}
    change(folder, "config.json", text_config=kinds["text"], vision_config=kinds["vision"])
    change(folder, "tokenizer_config.json", drop="model_max_length")
    manifest = read_foreign(folder).manifest
    assert (manifest.text.context_length, manifest.dim) == (context, dim)


def test_a_processor_within_the_joint_configuration_goes_first(clip: Path) -> None:
    wanted = read_foreign(clip).manifest.image
    tiny.write_json(clip / "processor_config.json", {"processor_class": "CLIPProcessor"})
    assert read_foreign(clip).manifest.image == wanted
    nested = CLIP["preprocessor_config.json"] | {"resample": 2}
    tiny.write_json(clip / "processor_config.json", {"image_processor": nested, "processor_class": "CLIPProcessor"})
    assert read_foreign(clip).manifest.image == wanted.model_copy(update={"interpolation": "bilinear"})
    (clip / "preprocessor_config.json").unlink()
    assert read_foreign(clip).manifest.image.interpolation == "bilinear"
    tiny.write_json(clip / "processor_config.json", {"image_processor": "CLIPImageProcessor"})
    with pytest.raises(BundleInvalid):
        read_foreign(clip)


def test_immich(immich: Path) -> None:
    bundle = read_foreign(immich)
    manifest = bundle.manifest
    assert (manifest.name, manifest.dim) == ("ViT-B-32__openai", tiny.DIM)
    assert (manifest.image.resize, manifest.image.crop_rounding) == ("shortest", "round")
    assert (manifest.text.cleaning, manifest.text.pad_to, manifest.text.mask) == ("ftfy_html", "context", False)
    assert bundle.tokenizer == immich / "textual" / "tokenizer.json"


@pytest.mark.parametrize(
    ("text_cfg", "cleaning"),
    [
        ({"context_length": 77}, "ftfy_html"),
        ({"hf_tokenizer_name": "xlm-roberta-base"}, "ftfy_html_cased"),
        (
            {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "tokenizer_kwargs": {"clean": "canonicalize"}},
            "ftfy_canonicalize",
        ),
    ],
)
def test_immich_cleans_as_open_clip_does(immich: Path, text_cfg: dict[str, Any], cleaning: str) -> None:
    change(immich, "config.json", text_cfg=text_cfg)
    text = read_foreign(immich).manifest.text
    assert (text.cleaning, text.context_length) == (cleaning, 77)


def test_immich_beside_a_text_tower_of_m_clip_cleans_nothing(immich: Path) -> None:
    onnx.save(tiny.text_graph(**FIXED, masked=True), immich / "textual/model.onnx")
    text = read_foreign(immich).manifest.text
    assert (text.cleaning, text.mask) == ("none", True)


@pytest.mark.parametrize("layout", ["clip", "siglip", "immich"])
def test_a_scale_that_is_not_stored_is_not_guessed(layout: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    assert read_foreign(folder).manifest.scoring is None


def stored_scoring(folder: Path) -> tuple[str, float, float]:
    scoring = read_foreign(folder).manifest.scoring
    assert scoring is not None
    return scoring.kind, scoring.scale, scoring.bias


def test_a_stored_scale_is_used(clip: Path, siglip: Path, immich: Path) -> None:
    change(clip, "config.json", logit_scale=4.605170185988092)
    assert stored_scoring(clip) == ("softmax", pytest.approx(100), 0)
    change(siglip, "config.json", logit_scale=4.765, logit_bias=-12.9)
    assert stored_scoring(siglip) == ("sigmoid", pytest.approx(117.33, abs=0.01), -12.9)
    change(immich, "config.json", logit_scale=4, init_logit_bias=-10)
    assert read_foreign(immich).manifest.scoring is None, "a sigmoid model without its bias"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": tiny.SIZE, "crop_size": tiny.SIZE}, {"resize": "shortest", "edge": None}),
        ({"size": {"shortest_edge": 10}}, {"resize": "shortest", "edge": 10}),
        ({"size": tiny.SIZE, "do_center_crop": False}, {"resize": "squash", "edge": None}),
        ({"size": SIZE}, {"resize": "squash", "edge": None}),
        ({"resample": 2}, {"interpolation": "bilinear"}),
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"image_processor_type": "CLIPImageProcessorFast"}, {"resize": "shortest"}),
    ],
)
def test_other_ways_to_say_how_a_picture_is_resized(
    clip: Path, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    change(clip, "preprocessor_config.json", **changes)
    assert read_foreign(clip).manifest.image.model_dump().items() >= expected.items()


@pytest.mark.parametrize(
    ("file", "changes", "field"),
    [
        ("config.json", {"model_type": "blip"}, "model_type"),
        ("config.json", {"drop": "projection_dim"}, "projection_dim"),
        ("config.json", {"projection_dim": "512"}, "projection_dim"),
        ("preprocessor_config.json", {"resample": 4}, "resample"),
        ("preprocessor_config.json", {"rescale_factor": 1}, "rescale_factor"),
        ("preprocessor_config.json", {"rescale_factor": 0.5}, "rescale_factor"),
        ("preprocessor_config.json", {"do_resize": False}, "do_resize"),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5]}, "image_mean"),
        ("preprocessor_config.json", {"size": {"longest_edge": 8}}, "size"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 4}}, "size"),
        ("preprocessor_config.json", {"do_center_crop": False}, "size"),
        ("preprocessor_config.json", {"size": {"height": 9, "width": 9}}, "crop_size"),
        ("preprocessor_config.json", {"drop": "crop_size"}, "crop_size"),
        ("preprocessor_config.json", {"image_processor_type": "Siglip2ImageProcessor"}, "image_processor_type"),
        ("tokenizer_config.json", {"drop": "pad_token"}, "pad_token"),
        ("tokenizer_config.json", {"pad_token": "[PAD]"}, "pad_token"),
    ],
)
def test_what_tuwen_does_not_support_is_named_by_file_and_field(
    clip: Path, file: str, changes: dict[str, Any], field: str
) -> None:
    change(clip, file, **changes)
    with pytest.raises(BundleInvalid) as caught:
        read_foreign(clip)
    assert caught.value.where == f"{file}: {field}"
    assert "\n" not in str(caught.value)


def test_an_impossible_number_is_refused(clip: Path) -> None:
    change(clip, "config.json", projection_dim=-1)
    with pytest.raises(BundleInvalid) as caught:
        read_foreign(clip)
    assert caught.value.where == clip


@pytest.mark.parametrize(
    ("file", "changes", "field"),
    [
        ("visual/preprocess_cfg.json", {"resize_mode": "fill"}, "resize_mode"),
        ("visual/preprocess_cfg.json", {"interpolation": "random"}, "interpolation"),
        ("visual/preprocess_cfg.json", {"size": [8, 8, 8]}, ""),
        ("config.json", {"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}}, "text_cfg.tokenizer_kwargs"),
    ],
)
def test_immich_names_what_tuwen_does_not_support(immich: Path, file: str, changes: dict[str, Any], field: str) -> None:
    change(immich, file, **changes)
    with pytest.raises(BundleInvalid) as caught:
        read_foreign(immich)
    assert str(caught.value.where).endswith(field)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file", ["preprocessor_config.json", "tokenizer_config.json", "tokenizer.json", "onnx/text_model.onnx"]
)
def test_a_missing_file_is_named(clip: Path, file: str) -> None:
    (clip / file).unlink()
    with pytest.raises(BundleInvalid):
        read_foreign(clip)


def test_immich_without_one_tower_names_it(immich: Path) -> None:
    (immich / "visual/model.onnx").unlink()
    with pytest.raises(BundleInvalid):
        read_foreign(immich)


def test_a_joined_graph_alone_is_refused(clip: Path) -> None:
    (clip / "onnx/vision_model.onnx").rename(clip / "onnx/model.onnx")
    with pytest.raises(BundleInvalid):
        read_foreign(clip)


def test_a_folder_of_neither_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    assert not is_foreign(tmp_path)
    with pytest.raises(BundleNotFound):
        read_foreign(tmp_path)


def copies(clip: Path, *suffixes: str) -> None:
    for tower in ("vision", "text"):
        for suffix in suffixes:
            shutil.copy(clip / f"onnx/{tower}_model.onnx", clip / f"onnx/{tower}_model{suffix}.onnx")


def test_precisions_are_told_by_their_suffixes_and_others_left_alone(clip: Path) -> None:
    copies(clip, "_fp16", "_int8", "_uint8", "_quantized", "_q4", "_bnb4", "_q4f16")
    bundle = read_foreign(clip)
    assert bundle.precisions == ("fp32", "fp16", "int8")
    assert bundle.graphs["text", "fp16"].name == "text_model_fp16.onnx"
    assert bundle.graphs["vision", "int8"].name == "vision_model_quantized.onnx"
    (clip / "onnx/vision_model_quantized.onnx").unlink()
    assert read_foreign(clip).graphs["vision", "int8"].name == "vision_model_uint8.onnx"


def test_four_bits_alone_are_refused(clip: Path) -> None:
    copies(clip, "_q4")
    for tower in ("vision", "text"):
        (clip / f"onnx/{tower}_model.onnx").unlink()
    with pytest.raises(BundleInvalid):
        read_foreign(clip)


def test_towers_without_a_common_precision_are_refused(clip: Path) -> None:
    (clip / "onnx/vision_model.onnx").rename(clip / "onnx/vision_model_fp16.onnx")
    with pytest.raises(BundleInvalid):
        read_foreign(clip)


def test_the_fingerprint_is_of_the_model_not_of_its_precision_name_or_notes(clip: Path, tmp_path: Path) -> None:
    before = read_foreign(clip).manifest.fingerprint()
    copies(clip, "_fp16", "_quantized")
    change(clip, "config.json", logit_scale=4.6, transformers_version="4.99")
    assert read_foreign(clip.rename(tmp_path / "renamed"), tmp_path / "cache").manifest.fingerprint() == before


@pytest.mark.parametrize("part", ["weights", "tokenizer", "preprocessing"])
def test_the_fingerprint_changes_with_what_the_vectors_mean(clip: Path, part: str) -> None:
    before = read_foreign(clip).manifest.fingerprint()
    if part == "weights":
        onnx.save(tiny.text_graph(), clip / "onnx/text_model.onnx")
    elif part == "tokenizer":
        path = clip / "tokenizer.json"
        path.write_bytes(path.read_bytes() + b"\n")
    else:
        change(clip, "preprocessor_config.json", resample=2)
    assert read_foreign(clip).manifest.fingerprint() != before


def test_weights_beside_the_graph_are_part_of_the_model(clip: Path) -> None:
    onnx.save(
        tiny.text_graph(),
        clip / "onnx/text_model.onnx",
        save_as_external_data=True,
        location="text_model.onnx_data",
        size_threshold=0,
    )
    bundle = read_foreign(clip)
    assert "onnx/text_model.onnx_data" in bundle.manifest.files
    data = clip / "onnx/text_model.onnx_data"
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\0")
    assert read_foreign(clip).manifest.fingerprint() != bundle.manifest.fingerprint()
    data.unlink()
    with pytest.raises(BundleInvalid) as caught:
        read_foreign(clip)
    assert caught.value.where == data


def test_a_snapshot_in_hugging_faces_cache_is_called_by_its_repository(clip: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Xenova--clip-vit-base-patch32" / "snapshots" / "0123abcd"
    snapshot.parent.mkdir(parents=True)
    assert read_foreign(clip.rename(snapshot)).manifest.name == "Xenova/clip-vit-base-patch32"
