import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import tiny
from tuwen.bundle.bundle import BundleChanged, BundleInvalid
from tuwen.errors import BundleNotFound, RuntimeUnavailable
from tuwen.runtime.loading import Choice, find_bundle, load_encoder

pytestmark = pytest.mark.precision


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tiny.write_bundle(tmp_path / "models" / "someone" / "tiny")
    return tmp_path / "models"


def test_a_model_is_found_by_its_folder_or_by_its_name(models: Path, tmp_path: Path) -> None:
    folder = models / "someone" / "tiny"
    for name in (str(folder), "someone/tiny"):
        assert find_bundle(name, models, tmp_path / "cache").folder == folder


def test_a_folder_wins_over_a_name(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_bundle(tmp_path / "someone" / "tiny", name="here")
    monkeypatch.chdir(tmp_path)
    assert find_bundle("someone/tiny", models, None).manifest.name == "here"


def test_the_home_folder_may_be_written_short(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(models))
    assert find_bundle("~/someone/tiny", models / "none", None).manifest.name == "tiny"


def test_a_model_that_is_not_here_says_where_it_looked_and_the_ways_out(models: Path) -> None:
    with pytest.raises(BundleNotFound) as caught:
        find_bundle("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", models, None)
    name = "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"
    assert caught.value.value == name
    assert [place.absolute() for place in caught.value.where] == [Path.cwd() / name, models / name]
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound) as caught:
        find_bundle(str(tmp_path), tmp_path / "models", None)
    assert caught.value.where == tmp_path


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(BundleNotFound):
        find_bundle(str(tmp_path / "cat.jpg"), tmp_path / "models", None)


def test_a_user_who_does_not_exist_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound) as caught:
        find_bundle("~nobody-of-this-name/b32", tmp_path / "models", None)
    assert caught.value.value == "~nobody-of-this-name/b32"


def test_a_model_that_is_there_and_wrong_is_not_called_absent(models: Path) -> None:
    (models / "someone/tiny/tokenizer.json").write_text("{}")
    with pytest.raises(BundleChanged):
        find_bundle("someone/tiny", models, None)
    (models / "someone/tiny/tuwen.json").write_text("{}")
    with pytest.raises(BundleInvalid):
        find_bundle("someone/tiny", models, None)


@pytest.mark.parametrize("name", ["pictograms", "demo", "tuwen-emoji"])
def test_the_model_of_pictograms_is_in_the_package_under_its_earlier_names_too(tmp_path: Path, name: str) -> None:
    encoder = load_encoder(name, Choice(), models=tmp_path, cache=tmp_path / "cache")
    assert encoder.name == "pictograms"
    assert encoder.names == {"pictograms", "demo", "tuwen-emoji"}
    vectors = encoder.encode_texts(["a red circle", "a blue star"])
    assert vectors.shape == (2, encoder.dim)
    assert vectors[0] @ vectors[1] < 0.999


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_encoder_keeps_what_it_compiled_only_where_it_may(models: Path, tmp_path: Path, runtime: str) -> None:
    choice = Choice(runtime=runtime, precision="fp32")
    kept = load_encoder("someone/tiny", choice, models=models, cache=tmp_path / "cache").encode_texts(["dog"])
    assert (tmp_path / "cache" / "digests").is_dir()
    assert (tmp_path / "cache" / "openvino").exists() == (runtime == "openvino")
    before = sorted(tmp_path.rglob("*"))
    np.testing.assert_array_equal(
        load_encoder("someone/tiny", choice, models=models, cache=None).encode_texts(["dog"]), kept
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_had_is_said_when_the_model_is_loaded(models: Path) -> None:
    with pytest.raises(RuntimeUnavailable):
        load_encoder("someone/tiny", Choice(precision="int8"), models=models, cache=None)


def test_a_foreign_model_is_loaded_like_ours(tmp_path: Path) -> None:
    folder = tmp_path / "ViT-B-32__openai"
    (folder / "visual").mkdir(parents=True)
    (folder / "textual").mkdir()
    onnx.save(tiny.vision_graph(batch=1, name="image"), folder / "visual/model.onnx")
    onnx.save(tiny.text_graph(batch=1, length=tiny.CONTEXT, wide=False, name="text"), folder / "textual/model.onnx")
    (folder / "textual/tokenizer.json").write_bytes(tiny.tokenizer_json())
    tiny.write_json(folder / "config.json", {"embed_dim": tiny.DIM, "text_cfg": {"context_length": tiny.CONTEXT}})
    tiny.write_json(
        folder / "textual/tokenizer_config.json", {"pad_token": "<end_of_text>", "eos_token": "<end_of_text>"}
    )
    spec = {"size": tiny.SIZE, "mean": tiny.IMAGE.mean, "std": tiny.IMAGE.std, "interpolation": "bicubic"}
    tiny.write_json(folder / "visual/preprocess_cfg.json", spec)
    exact = Choice(precision="fp32")
    ours = load_encoder(str(tiny.write_bundle(tmp_path / "ours").folder), exact, models=tmp_path, cache=None)
    theirs = load_encoder(str(folder), exact, models=tmp_path, cache=None)
    texts, pixels = ["the dog", "a cat", ""], tiny.numbers(1, 3, 3, tiny.SIZE, tiny.SIZE)
    np.testing.assert_allclose(theirs.encode_texts(texts), ours.encode_texts(texts), atol=1e-6)
    np.testing.assert_allclose(theirs.encode_pixels(pixels), ours.encode_pixels(pixels), atol=1e-6)
    assert theirs.fingerprint != ours.fingerprint


USE = """
import sys
import tuwen
assert not {"numpy", "pydantic", "PIL", "onnxruntime", "openvino"} & set(sys.modules)
import numpy as np
from PIL import Image
for runtime in ("onnxruntime", "openvino"):
    encoder = tuwen.load(sys.argv[1], runtime=runtime)
    encoder.encode_texts(["the dog", "a cat"])
    encoder.encode_images([Image.new("RGB", (20, 30), "red")])
heavy = {"torch", "torchvision", "transformers", "open_clip", "onnx", "sentencepiece", "huggingface_hub"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_loading_and_encoding_never_imports_torch(models: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", USE, models / "someone" / "tiny"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
