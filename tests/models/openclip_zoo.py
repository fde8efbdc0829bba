"""The open_clip architectures that are tested, each at two layers, and the files that some of them want beside.

Their vocabularies are small and made here; their pipelines are those of the real tokenizers.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data.material import SENTENCES
from tuwen.models.openclip import load
from tuwen.models.openclip_weights import build
from tuwen.models.torchvision import import_open_clip
from tuwen.models.towers import Towers

TWO: dict[str, dict[str, Any]] = {
    "RN50": {"vision_cfg": {"layers": [2, 2, 2, 2]}},
    "ViT-B-32": {"vision_cfg": {"layers": 2}},
    "ViT-B-32-quickgelu": {"vision_cfg": {"layers": 2}},
    "convnext_base": {},
    "EVA02-B-16": {},
    "coca_ViT-B-32": {"vision_cfg": {"layers": 2}, "multimodal_cfg": {"layers": 2}},
    "MobileCLIP2-S0": {},
    "MobileCLIP2-S3": {},
    "MobileCLIP2-B": {},
    "PE-Core-B-16": {},
    "ViT-H-14-worldwide-quickgelu": {"vision_cfg": {"layers": 2}, "text_cfg": {"vocab_size": 2000}},
    "ViT-L-14-CLIPA": {"vision_cfg": {"layers": 2}},
    "ViT-B-16-SigLIP2": {"text_cfg": {"vocab_size": 2000}},
    "xlm-roberta-base-ViT-B-32": {"vision_cfg": {"layers": 2}},
}
"""What makes each architecture two layers deep; those of timm are made so by `shallow`."""

_TIMM = {
    "convnext_base": {"depths": (2, 2, 2, 2)},
    "eva02_base_patch16_clip_224": {"depth": 2},
    "fastvit_mci0": {"layers": (2, 2, 2, 2)},
    "fastvit_mci3": {"layers": (2, 2, 2, 2, 2)},
    "vit_base_mci_224": {"depth": 2},
    "vit_pe_core_base_patch16_224": {"depth": 2},
    "vit_base_patch16_siglip_224": {"depth": 2},
}
_NARROW_TIMM = {
    "convnext_base": {"dims": (16, 32, 64, 128)},
    "eva02_base_patch16_clip_224": {"embed_dim": 192, "num_heads": 3},
    "fastvit_mci0": {"embed_dims": (16, 32, 64, 128)},
    "fastvit_mci3": {"embed_dims": (16, 32, 64, 128, 256)},
    "vit_base_mci_224": {},
    "vit_pe_core_base_patch16_224": {"embed_dim": 192, "num_heads": 3},
    "vit_base_patch16_siglip_224": {},
}


@contextmanager
def shallow(*, narrow: bool) -> Iterator[None]:
    """timm's models at two layers, narrow ones if wished: open_clip has no option that would say so."""
    import_open_clip()
    import timm

    original = timm.create_model

    def create_model(name: str, **options: Any) -> Any:
        return original(name, **_TIMM[name], **(_NARROW_TIMM[name] if narrow else {}), **options)

    timm.create_model = create_model
    try:
        yield
    finally:
        timm.create_model = original


def two_layers(architecture: str, folder: Path, *, width: int | None = None, seed: int = 0) -> Towers:
    """An architecture at two layers with random weights; its files of the hub are written to `folder`.

    Args:
        architecture: one of `TWO`.
        folder: an empty one.
        width: of the text tower, to be quick, with a narrower image tower; None: the architecture's own.
        seed: of the weights.
    """
    write_files(architecture, folder, width or 768)
    with shallow(narrow=width is not None):
        return load(architecture, folder=folder, overrides=overrides(architecture, width), seed=seed)


def overrides(architecture: str, width: int | None) -> dict[str, Any]:
    changes = {**TWO[architecture]}
    narrow = {} if width is None else {"width": width, "heads": 2}
    if width is not None and "vision_cfg" in changes:
        changes["vision_cfg"] = {**changes["vision_cfg"], "width": 16 if architecture == "RN50" else 128}
    if not architecture.startswith("xlm"):
        changes["text_cfg"] = {"layers": 2, **narrow, **changes.get("text_cfg", {})}
    if width is not None and "multimodal_cfg" in changes:
        changes["multimodal_cfg"] = {**changes["multimodal_cfg"], **narrow}
    return changes


def write_files(architecture: str, folder: Path, width: int) -> None:
    if architecture.startswith("xlm") or "worldwide" in architecture:
        write_xlm_roberta(folder, width)
    elif "CLIPA" in architecture:
        write_bert(folder)
    elif "SigLIP2" in architecture:
        write_gemma(folder)
    elif "SigLIP" in architecture:
        write_t5(folder)


def write_layout(architecture: str, folder: Path, *, width: int = 64, seed: int = 0) -> Towers:
    """The same as a folder of the hub: configuration, weights, tokenizer. Returns the towers it was made from."""
    from safetensors.torch import save_file

    towers = two_layers(architecture, folder, width=width, seed=seed)
    model = import_open_clip().get_model_config(architecture)
    merge(model, overrides(architecture, width))
    image = towers.image_spec
    preprocessing = {
        "mean": image.mean,
        "std": image.std,
        "interpolation": image.interpolation,
        "resize_mode": {"pad": "longest"}.get(image.resize, image.resize),
    }
    document = {"model_cfg": model, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(document), encoding="utf-8")
    save_file({**state(towers), **decoder(model, folder, seed)}, folder / "open_clip_model.safetensors")
    return towers


def state(towers: Towers) -> dict[str, Any]:
    """What a checkpoint of the towers holds."""
    import torch

    scale = {"logit_scale": torch.tensor(4.5)}
    bias = {"logit_bias": torch.tensor(-9.0)} if towers.scoring.kind == "sigmoid" else {}
    return {**{name: tensor.clone() for name, tensor in towers.weights.items()}, **scale, **bias}


def decoder(model: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """What CoCa has beside the two towers, and a checkpoint of it holds."""
    if "multimodal_cfg" not in model:
        return {}
    whole = build(import_open_clip(), model, seed, folder).state_dict()
    return {name: tensor for name, tensor in whole.items() if name.startswith("text_decoder.")}


def merge(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            merge(config.setdefault(key, {}), value)
        else:
            config[key] = value


def pieces_of_sentences() -> list[tuple[str, float]]:
    """A Unigram vocabulary of the test sentences: pieces with their scores."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learning = Tokenizer(models.Unigram())
    learning.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    learning.train_from_iterator(SENTENCES.values(), trainers.UnigramTrainer(vocab_size=900, show_progress=False))
    return [(piece, score) for piece, score in json.loads(learning.to_str())["model"]["vocab"]]


def write_t5(folder: Path) -> None:
    """T5's tokenizer as SigLIP has it: its end token pads, too."""
    from transformers import T5Tokenizer

    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces_of_sentences()]
    T5Tokenizer(vocab=vocabulary, extra_ids=0, pad_token="</s>").save_pretrained(folder)


def write_xlm_roberta(folder: Path, width: int) -> None:
    """XLM-R's tokenizer over pieces of the test sentences, and a tower of two layers that fits it."""
    from transformers import XLMRobertaConfig, XLMRobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = [*((name, 0.0) for name in special[:4]), *pieces_of_sentences(), (special[4], 0.0)]
    XLMRobertaTokenizer(vocab=vocabulary).save_pretrained(folder)
    XLMRobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        architectures=["XLMRobertaModel"],
    ).save_pretrained(folder)


def write_bert(folder: Path) -> None:
    """BERT's uncased word pieces."""
    from transformers import BertTokenizer

    letters = sorted({letter for text in SENTENCES.values() for letter in text.lower() if not letter.isspace()})
    words = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    words += [*(f"##{letter}" for letter in letters), "dog", "brown", "the"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)


def write_gemma(folder: Path) -> None:
    """Gemma's byte-level fall-back over pairs of letters, with an end token and no first one, as in SigLIP 2."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    learning = Tokenizer(models.BPE())
    learning.normalizer = normalizers.Replace(" ", "▁")
    learning.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    trainer = trainers.BpeTrainer(vocab_size=1200, show_progress=False, special_tokens=special + bytes_)
    learning.train_from_iterator([text.lower() for text in SENTENCES.values()], trainer)
    model = json.loads(learning.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    GemmaTokenizer(
        vocab=model["vocab"], merges=merges, padding_side="right", add_bos_token=False, add_eos_token=True
    ).save_pretrained(folder)
