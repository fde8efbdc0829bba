"""immich's layout against open_clip itself: a small model with random weights, exported as immich does it.

The exporter, its fixed shapes and int32 texts are immich's; the configuration is what open_clip says of the model.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuwen.runtime.loading import Choice, load_encoder

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")

TEXTS = ["a dog on the grass", "", "It\u2019s a CAT &amp; a dog \u2014 na\u00efve", "word " * 100, "一只狗"]
OVERRIDES: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 16},
    "text_cfg": {"layers": 2, "width": 64, "heads": 4},
}


def publish(path: Path, module: Any, example: Any, name: str) -> None:
    path.parent.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (example,), path, input_names=[name], output_names=["embedding"], dynamo=False)


@pytest.fixture(scope="module")
def towers() -> Any:
    from tuwen.models.openclip import load

    return load("ViT-B-32", overrides=OVERRIDES)


@pytest.fixture(scope="module")
def folder(towers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "ViT-B-32__random"
    publish(folder / "visual/model.onnx", towers.vision, torch.zeros(1, 3, 64, 64), "image")
    publish(folder / "textual/model.onnx", towers.text, torch.ones(1, 77, dtype=torch.int32), "text")
    spec = towers.image_spec
    preprocessing = {
        "size": list(spec.size),
        "mode": "RGB",
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    (folder / "visual/preprocess_cfg.json").write_text(json.dumps(preprocessing))
    (folder / "config.json").write_text(json.dumps(OVERRIDES))
    (folder / "textual/tokenizer.json").write_bytes(towers.tokenizer)
    names = {"pad_token": "<end_of_text>", "eos_token": "<end_of_text>", "model_max_length": 77}
    (folder / "textual/tokenizer_config.json").write_text(json.dumps(names))
    return folder


def unit(rows: Any) -> np.ndarray:
    return torch.nn.functional.normalize(rows, dim=-1).numpy()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_vectors_are_those_of_open_clip(folder: Path, towers: Any, runtime: str) -> None:
    choice = Choice(runtime=runtime, device="cpu", precision="fp32")
    encoder = load_encoder(str(folder), choice, models=Path(), cache=None, exact_decode=True)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)) for size in ((64, 64, 3), (90, 70, 3))]
    with torch.inference_mode():
        texts = unit(towers.text(torch.from_numpy(towers.to_tokens(TEXTS).ids)))
        pictures = unit(towers.vision(torch.from_numpy(towers.to_pixels(images))))
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(images), pictures, atol=1e-5)
