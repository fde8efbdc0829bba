"""Hugging Face's layout against transformers itself: tiny models with random weights, published as others do it.

The graphs come from the exporter that these repositories were made with, the configuration files from transformers'
own `save_pretrained`.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from tuwen.bundle.foreign import read_foreign
from tuwen.data.vocabularies import wordpiece_tokenizer_json
from tuwen.models.torchvision import make_torchvision_importable
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.engines import import_onnxruntime
from tuwen.runtime.loading import Choice, load_encoder

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
make_torchvision_importable()
transformers = pytest.importorskip("transformers")

TEXTS = ["the dog", "a cat on the dog, the cat", "dog " * 30, "", "一只狗", "The  DOG &amp; the cat!"]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = VISION | {"vocab_size": tiny.VOCABULARY, "max_position_embeddings": tiny.CONTEXT}


@dataclass
class Published:
    """A repository on disk, and what transformers makes of texts and pictures with the same weights."""

    folder: Path
    texts: Callable[[Sequence[str]], np.ndarray]
    images: Callable[[Sequence[Image.Image]], np.ndarray]


class Tower(torch.nn.Module):
    """One method of a model as a module of its own, with the outputs that are published beside each other."""

    def __init__(self, model: Any, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, first: Any, mask: Any = None) -> Any:
        options = {} if mask is None else {"attention_mask": mask}
        found = getattr(self.model, self.method)(first, **options)
        return found.pooler_output, found.last_hidden_state


def publish(folder: Path, name: str, model: Any, inputs: dict[str, Any], outputs: list[str]) -> None:
    """With every batch and length free, as optimum exports."""
    tower = Tower(model, "get_text_features" if name == "text" else "get_image_features")
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    axes = {key: {0: "batch_size"} | ({1: "sequence_length"} if key != "pixel_values" else {}) for key in inputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower.eval(),
            tuple(inputs.values()),
            folder / "onnx" / f"{name}_model.onnx",
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=14,
            dynamo=False,
        )


def write_tokenizer(folder: Path, content: bytes, **special: str) -> Any:
    path = folder / "source.json"
    path.write_bytes(content)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), model_max_length=tiny.CONTEXT, **special)
    path.unlink()
    tokenizer.save_pretrained(folder)
    return tokenizer


def unit(rows: Any) -> np.ndarray:
    array = rows.detach().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def reference(folder: Path, model: Any, tokenizer: Any, processor: Any, padding: str) -> Published:
    def texts(given: Sequence[str]) -> np.ndarray:
        inputs = tokenizer(list(given), padding=padding, truncation=True, max_length=tiny.CONTEXT, return_tensors="pt")
        for unread in ("token_type_ids", *(["attention_mask"] if padding == "max_length" else [])):
            inputs.pop(unread, None)  # SigLIP's own tokenizer gives neither
        with torch.no_grad():
            return unit(model.get_text_features(**inputs).pooler_output)

    def images(given: Sequence[Image.Image]) -> np.ndarray:
        with torch.no_grad():
            return unit(model.get_image_features(**processor(given, return_tensors="pt")).pooler_output)

    return Published(folder, texts, images)


IDS = torch.tensor([[tiny.END - 1, 5, 6, tiny.END], [tiny.END - 1, 7, tiny.END, tiny.END]])
PIXELS = torch.zeros(2, 3, 32, 32)
END = "<end_of_text>"
SPECIAL = {"bos_token_id": tiny.END - 1, "eos_token_id": tiny.END, "pad_token_id": tiny.END}


def clip(folder: Path) -> Published:
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = CLIPConfig(text_config=TEXT | SPECIAL, vision_config=VISION, projection_dim=tiny.DIM)
    model = CLIPModel(config).eval()
    publish(folder, "text", model, {"input_ids": IDS}, ["text_embeds", "last_hidden_state"])
    publish(folder, "vision", model, {"pixel_values": PIXELS}, ["image_embeds", "last_hidden_state"])
    config.save_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokenizer = write_tokenizer(folder, tiny.tokenizer_json(), eos_token=END, pad_token=END)
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    assert {path.name for path in folder.glob("*processor_config.json")} == {"processor_config.json"}
    return reference(folder, model, tokenizer, processor, "longest")


def chinese_clip(folder: Path) -> Published:
    from transformers import ChineseCLIPConfig, ChineseCLIPModel
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "cat", "##s", "on", "一", "只", "狗", "!"]
    text_config = TEXT | {"vocab_size": len(words), "max_position_embeddings": 40, "pad_token_id": 0}
    config = ChineseCLIPConfig(text_config=text_config, vision_config=VISION, projection_dim=tiny.DIM)
    model = ChineseCLIPModel(config).eval()
    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    publish(folder, "text", model, {"input_ids": ids, "attention_mask": mask}, ["text_embeds", "last_hidden_state"])
    publish(folder, "vision", model, {"pixel_values": PIXELS}, ["image_embeds", "last_hidden_state"])
    config.save_pretrained(folder)
    processor = ChineseCLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    processor.save_pretrained(folder)
    content = wordpiece_tokenizer_json(words)
    tokenizer = write_tokenizer(folder, content, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]")
    return reference(folder, model, tokenizer, processor, "longest")


def siglip(folder: Path) -> Published:
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    config = SiglipConfig(text_config=TEXT | SPECIAL | {"projection_size": 32}, vision_config=VISION)
    model = SiglipModel(config).eval()
    publish(folder, "text", model, {"input_ids": IDS}, ["pooler_output", "last_hidden_state"])
    publish(folder, "vision", model, {"pixel_values": PIXELS}, ["pooler_output", "last_hidden_state"])
    config.save_pretrained(folder)
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    tokenizer = write_tokenizer(folder, tiny.tokenizer_json(), eos_token=END, pad_token=END)
    return reference(folder, model, tokenizer, processor, "max_length")


@pytest.fixture(scope="module", params=[clip, chinese_clip, siglip], ids=lambda family: family.__name__)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Published:
    torch.manual_seed(0)
    return request.param(tmp_path_factory.mktemp("hub") / request.param.__name__)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (33, 50), (60, 41), (20, 20), (100, 37)]
    return [Image.fromarray(rng.integers(0, 255, (high, wide, 3), dtype=np.uint8)) for wide, high in sizes]


def encoder_of(published: Published, runtime: str, precision: str = "fp32", cache: Path | None = None) -> Encoder:
    choice = Choice(runtime=runtime, device="cpu", precision=precision)
    return load_encoder(str(published.folder), choice, models=Path(), cache=cache, exact_decode=True)


def test_what_configurations_of_transformers_4_leave_out(published: Published, tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = shutil.copytree(published.folder, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    tiny.write_json(folder / "config.json", values | {"text_config": {}, "vision_config": {}})
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tiny.write_json(folder / "tokenizer_config.json", tokenizer | {"model_max_length": None})
    usual, read = AutoConfig.for_model(values["model_type"]), read_foreign(folder).manifest
    assert read.text.context_length == usual.text_config.max_position_embeddings
    assert read.dim == values.get("projection_dim", usual.vision_config.hidden_size)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_vectors_are_those_of_transformers(published: Published, pictures: list[Image.Image], runtime: str) -> None:
    encoder = encoder_of(published, runtime)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), published.texts(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(pictures), published.images(pictures), atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_texts_are_cut_where_the_tower_allows_it_and_stay_those_of_transformers(
    published: Published, runtime: str, tmp_path: Path
) -> None:
    encoder = encoder_of(published, runtime, cache=tmp_path)
    assert encoder.text_spec.cut_exact == (published.folder.name != "siglip")
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), published.texts(TEXTS), atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_what_is_published_as_quantized_is_near_and_each_vector_stands_alone(
    published: Published, pictures: list[Image.Image], runtime: str
) -> None:
    import_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for tower in ("vision", "text"):
        graph = published.folder / "onnx" / f"{tower}_model.onnx"
        target = graph.with_stem(f"{tower}_model_quantized")
        if not target.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                quantize_dynamic(graph, target, weight_type=QuantType.QUInt8)
    encoder = encoder_of(published, runtime, "int8")
    texts, images = encoder.encode_texts(TEXTS), encoder.encode_images(pictures)
    assert (texts * published.texts(TEXTS)).sum(axis=1).min() > 0.98
    assert (images * published.images(pictures)).sum(axis=1).min() > 0.98
    np.testing.assert_allclose(np.concatenate([encoder.encode_texts([text]) for text in TEXTS]), texts, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([encoder.encode_images([one]) for one in pictures]), images, atol=1e-6)


def test_the_fingerprint_does_not_depend_on_the_precision(published: Published) -> None:
    assert encoder_of(published, "onnxruntime").fingerprint == encoder_of(published, "openvino").fingerprint
