"""Folders of transformers: a small model of every family is told by its content, and computes what it should."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import BundleInvalid, InvalidInput
from tuwen.exporting.samples import TEXTS, built_in
from tuwen.models.sources import family_of, load_source
from tuwen.models.torchvision import import_transformers
from tuwen.models.towers import Towers

from . import tiny_transformers

MORE = (
    *TEXTS,
    "snake_case_name, un-dashed; (brackets)!",
    "TITLE Case",
    "  padded  ",
    "▁lower one eighth block",
    "a" * 300,
)


@dataclass
class Loaded:
    kind: str
    folder: Path
    towers: Towers


@pytest.fixture(scope="module", params=tiny_transformers.KINDS)
def loaded(request, tmp_path_factory) -> Loaded:
    folder = tiny_transformers.write(tmp_path_factory.mktemp("hf") / request.param, request.param)
    return Loaded(request.param, folder, load_source(str(folder)))


def test_told_by_content_and_named_after_its_folder(loaded) -> None:
    assert family_of(loaded.folder).name == "hf"
    assert (loaded.towers.name, loaded.towers.source) == (loaded.kind, f"hf:{loaded.kind}")


def test_vectors_are_transformers_own(loaded) -> None:
    """By the public methods of the whole model, read anew by transformers itself."""
    model = import_transformers().AutoModel.from_pretrained(loaded.folder).eval()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = loaded.towers.to_tokens(TEXTS[:4])
    ids, mask = (
        torch.from_numpy(tokens.ids),
        torch.arange(tokens.ids.shape[1]) < torch.tensor(tokens.lengths)[:, None],
    )
    masked = (ids, mask.long()) if loaded.towers.text_spec.mask else (ids,)
    with torch.no_grad():
        if loaded.kind == "siglip2_naflex":
            pixels, inputs = of_squares(loaded)
        else:
            inputs = {"pixel_values": pixels}
        image = model.get_image_features(**inputs).pooler_output
        # SigLIP is fed without a mask, as its processor does; the others are, as theirs do
        given = {} if loaded.kind.startswith("siglip") else {"attention_mask": mask.long()}
        text = model.get_text_features(input_ids=ids, **given).pooler_output
        exact = 1e-5 if loaded.kind == "siglip2_naflex" else 0  # its own tower masks, which adds up in another order
        torch.testing.assert_close(loaded.towers.vision(pixels), image, rtol=exact, atol=exact)
        torch.testing.assert_close(loaded.towers.text(*masked), text, rtol=1e-5, atol=1e-6)


def of_squares(loaded: Loaded) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Square images as pixels, and as patches by the model's own processor."""
    images = [image.resize((side, side)) for image, side in zip(built_in().images, (32, 50, 200), strict=False)]
    own = import_transformers().AutoImageProcessor.from_pretrained(loaded.folder, backend="pil")
    return torch.from_numpy(loaded.towers.to_pixels(images)), dict(own(images, return_tensors="pt"))


def test_scale_and_bias_are_the_checkpoint_s(loaded) -> None:
    scoring = loaded.towers.scoring
    if loaded.kind.startswith("siglip"):
        assert (scoring.kind, scoring.bias) == ("sigmoid", -7.5)
        assert scoring.scale == pytest.approx(np.exp(2.3), rel=1e-6)
    else:
        assert (scoring.kind, scoring.bias) == ("softmax", 0.0)
        assert scoring.scale == pytest.approx(np.exp(3.7), rel=1e-6)


def test_pixels_are_transformers_own(loaded) -> None:
    images = built_in().images
    expected = loaded.towers.to_pixels(images)
    assert expected.shape == (len(images), 3, 32, 32)
    np.testing.assert_allclose(to_pixels(loaded.towers.image_spec, images), expected, rtol=0, atol=1e-6)


def test_ids_are_transformers_own(loaded, tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(loaded.towers.tokenizer)
    found = Tokenizer(tmp_path / "tokenizer.json", loaded.towers.text_spec).to_tokens(MORE)
    expected = loaded.towers.to_tokens(MORE)
    for text, ours, length, theirs, reference in zip(
        MORE, found.ids, found.lengths, expected.ids, expected.lengths, strict=True
    ):
        assert ours[:length].tolist() == theirs[:reference].tolist(), text
    assert found.truncated > 0


def test_the_lower_case_that_siglip_2_was_trained_on(tmp_path) -> None:
    folder = tiny_transformers.write(tmp_path, "siglip2")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    changed = settings | {"tokenizer_class": "Siglip2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(changed))
    lower, upper = load_source(str(folder)).to_tokens(["a red dog", "A Red DOG"]).ids
    assert lower.tolist() == upper.tolist()


def test_a_tokenizer_that_keeps_capitals_of_a_model_of_lower_case_is_named(tmp_path, caplog) -> None:
    folder = tiny_transformers.write(tmp_path, "siglip2")
    (folder / "processor_config.json").unlink(missing_ok=True)
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    for kept, processor in ((True, "SiglipProcessor"), (False, "CLIPProcessor")):
        file.write_text(json.dumps(settings | {"processor_class": processor}))
        caplog.clear()
        load_source(str(folder))
        assert any(str(folder / "tokenizer.json") in record.getMessage() for record in caplog.records) is kept


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny_transformers.write(tmp_path / "clip", "clip")


def test_weights_in_a_pickle_and_in_pieces(folder) -> None:
    expected = load_source(str(folder)).weights_sha256()
    model = import_transformers().AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    state = model.state_dict() | {"text_model.embeddings.position_ids": torch.arange(40)[None]}
    torch.save(state, folder / "pytorch_model.bin")
    assert load_source(f"hf:{folder}").weights_sha256() == expected
    (folder / "pytorch_model.bin").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert load_source(f"hf:{folder}").weights_sha256() == expected


def test_a_processor_as_transformers_5_saves_it(folder) -> None:
    expected = load_source(str(folder))
    alone = folder / "preprocessor_config.json"
    joint = {"image_processor": json.loads(alone.read_text()), "processor_class": "CLIPProcessor"}
    alone.unlink()
    (folder / "processor_config.json").write_text(json.dumps(joint))
    found, image = load_source(str(folder)), Image.new("RGB", (40, 30), "red")
    assert found.image_spec == expected.image_spec
    np.testing.assert_array_equal(found.to_pixels([image]), expected.to_pixels([image]))


def test_what_a_folder_lacks(folder) -> None:
    for name in ("model.safetensors", "preprocessor_config.json", "config.json"):
        (folder / name).rename(folder / "aside")
        with pytest.raises((InvalidInput, BundleInvalid)):
            load_source(str(folder))
        (folder / "aside").rename(folder / name)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "tokenizer.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InvalidInput):
        load_source(str(folder))


def test_weights_of_another_model(folder, tmp_path) -> None:
    other = tiny_transformers.write(tmp_path / "other", "chinese_clip")
    shutil.copy(other / "model.safetensors", folder)
    with pytest.raises(InvalidInput):
        load_source(str(folder))


def test_a_tokenizer_of_another_model(folder, tmp_path) -> None:
    other = tiny_transformers.write(tmp_path / "other", "siglip2")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(other / name, folder)
    with pytest.raises(InvalidInput):
        load_source(str(folder))


def test_settings_that_are_not_taken(folder) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_source(str(folder), arch="ViT-B-32")
    assert (caught.value.value, caught.value.where) == ("ViT-B-32", "--arch")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": "wide"}))
    with pytest.raises(InvalidInput):
        load_source(str(folder))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "siglip3"}))
    with pytest.raises(InvalidInput) as unknown:
        load_source(f"hf:{folder}")
    assert unknown.value.value == "siglip3"


def test_a_model_with_code_of_its_own_is_refused(folder) -> None:
    own = {"model_type": "jina_clip", "auto_map": {"AutoModel": "org/code--modeling.Model"}}
    (folder / "config.json").write_text(json.dumps(own))
    for source in (f"hf:{folder}", str(folder)):
        with pytest.raises(InvalidInput, match="code") as caught:
            load_source(source)
        assert caught.value.value == "jina_clip"
