"""Models of the published sizes with random weights, from their files to a verified bundle. Minutes, gigabytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models import tiny_transformers
from tuwen.exporting.export import export_towers
from tuwen.exporting.samples import TEXTS, Samples, built_in
from tuwen.models.sources import load_source
from tuwen.models.torchvision import import_transformers

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

CHINESE_CLIP: dict[str, Any] = {  # ViT-B-16 and RoBERTa-wwm-ext-base
    "projection_dim": 512,
    "vision_config": {"patch_size": 16, "hidden_act": "quick_gelu"},
    "text_config": {"vocab_size": 21128},
}
ALTCLIP: dict[str, Any] = {  # ViT-L-14 and XLM-R-L, as AltCLIP-m9; AltCLIP-m18's towers are as large
    "projection_dim": 768,
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "text_config": {},
}


@pytest.mark.parametrize(
    ("kind", "sizes"), [("chinese_clip", CHINESE_CLIP), ("altclip", ALTCLIP)], ids=["chinese-clip-b16", "altclip-l"]
)
def test_exported_and_verified(kind, sizes, tmp_path) -> None:
    towers = load_source(str(written(tmp_path / kind, kind, sizes)))
    known = built_in()
    samples = Samples(known.images[:3], TEXTS[:8])
    bundle = export_towers(towers, tmp_path / "bundle", ("fp32", "fp16", "int8"), samples)
    exact = [check for check in bundle.manifest.verify["fp32"].checks if check.precision == "fp32"]
    assert max(check.max_abs for check in exact if check.stage in ("image", "text")) <= 1e-5
    for precision, least in (("fp16", 0.999), ("int8", 0.99)):
        checks = bundle.manifest.verify[precision].checks
        assert min(check.worst_cosine for check in checks if check.stage in ("image", "text")) >= least
    assert bundle.manifest.text.cut_exact
    large = kind == "altclip"  # XLM-R-L alone is over what one protobuf message holds
    assert (bundle.folder / "onnx" / "text_model.onnx_data").exists() == large


def written(folder: Path, kind: str, sizes: dict[str, Any]) -> Path:
    """A folder as published, around a model of full size; the words of the small tokenizer are its first ones."""
    folder.mkdir()
    tiny_transformers.TOKENIZERS[kind](folder)
    processor = tiny_transformers.processor(kind)
    square = {"height": 224, "width": 224}
    size = square if kind == "chinese_clip" else {"shortest_edge": 224}
    processor |= {"size": size} | ({} if kind == "chinese_clip" else {"crop_size": square})
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    transformers = import_transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **sizes))
    model.save_pretrained(folder)
    return folder
