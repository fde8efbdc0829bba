"""Folders of small models of transformers with random weights, in the format that real ones are published in."""

import json
from pathlib import Path
from typing import Any

import torch

from tuwen.exporting.samples import TEXTS
from tuwen.models.torchvision import import_transformers

SIZE = 32
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 8,
}
PATCHES = {**VISION, "num_patches": (SIZE // 8) ** 2}
del PATCHES["image_size"]
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
KINDS = ("clip", "chinese_clip", "altclip", "siglip", "siglip2", "siglip2_naflex", "metaclip_2")


def write(folder: Path, kind: str, seed: int = 0) -> Path:
    """A folder with tokenizer, preprocessing, configuration and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    words = TOKENIZERS[kind](folder)
    _write_json(folder / "preprocessor_config.json", processor(kind))
    model(kind, words, seed).save_pretrained(folder)
    return folder


def model(kind: str, words: int, seed: int = 0) -> Any:
    """Random weights, with a scale (and bias) that is nobody's default."""
    transformers = import_transformers()
    text = TEXT | {"vocab_size": words, "max_position_embeddings": {"altclip": 80}.get(kind, 40)}
    if kind == "clip":
        text |= {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
    if kind == "altclip":
        text |= {"project_dim": 24}
    if kind == "metaclip_2":
        text |= {"projection_dim": 24, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    vision = PATCHES if kind == "siglip2_naflex" else VISION
    values: dict[str, Any] = {"text_config": text, "vision_config": dict(vision)}
    if not kind.startswith("siglip"):
        values |= {"projection_dim": 24, "logit_scale_init_value": 3.7}
    types = {"siglip2": "siglip", "siglip2_naflex": "siglip2"}  # SigLIP 2 of a fixed size is published as SigLIP
    config = transformers.AutoConfig.for_model(types.get(kind, kind), **values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = transformers.AutoModel.from_config(config)
        for tensor in made.parameters():  # norms of 1, biases of 0 and small weights would hide what is misplaced
            if tensor.ndim:
                tensor.data += 0.1 * torch.randn_like(tensor)
        if kind.startswith("siglip"):
            made.logit_scale.data.fill_(2.3)
            made.logit_bias.data.fill_(-7.5)
    return made.eval()


def processor(kind: str) -> dict[str, Any]:
    """As the published models of the family have it."""
    square = {"height": SIZE, "width": SIZE}
    common = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "resample": 3}
    half = [0.5, 0.5, 0.5]
    if kind == "siglip2_naflex":
        patches = {"patch_size": PATCHES["patch_size"], "max_num_patches": PATCHES["num_patches"]}
        names = {"image_processor_type": "Siglip2ImageProcessor", "resample": 2}
        return common | names | patches | {"image_mean": half, "image_std": half}
    if kind.startswith("siglip"):
        return common | {
            "image_processor_type": "SiglipImageProcessor",
            "size": square,
            "image_mean": half,
            "image_std": half,
        }
    clip = common | {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    if kind == "chinese_clip":
        return clip | {
            "feature_extractor_type": "ChineseCLIPFeatureExtractor",
            "do_center_crop": False,
            "size": square,
        }
    return clip | {
        "image_processor_type": "CLIPImageProcessor",
        "do_center_crop": True,
        "crop_size": square,
        "size": {"shortest_edge": SIZE},
    }


def _clip(folder: Path) -> int:
    """CLIP's byte-level BPE with six merges."""
    from tuwen.data.vocabularies import bpe_tokenizer_json

    merges = ["t h", "th e</w>", "d o", "do g</w>", "c a", "ca t</w>"]
    document = json.loads(bpe_tokenizer_json(merges, start="<|startoftext|>", end="<|endoftext|>"))
    vocabulary = document["model"]["vocab"]
    _write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    return len(vocabulary)


def _chinese(folder: Path) -> int:
    """Word pieces; the published folders have no other file for them."""
    letters = sorted({letter for text in TEXTS for letter in text.lower() if not letter.isspace()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return len(words)


def sentencepiece(path: Path, **ids: int) -> int:
    """A Unigram model trained on the sample texts."""
    import sentencepiece as trainer

    lines = [part for text in TEXTS for part in text.splitlines() if part][:38]
    trainer.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3),
        model_prefix=str(path.with_suffix("")),
        vocab_size=700,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    path.with_suffix(".vocab").unlink()
    if path.suffix != ".model" or not path.exists():
        path.with_suffix(".model").rename(path)
    return trainer.SentencePieceProcessor(model_file=str(path)).get_piece_size()


def _alt(folder: Path) -> int:
    words = sentencepiece(folder / "sentencepiece.bpe.model")
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512}
    _write_json(folder / "tokenizer_config.json", settings)
    return words + 2


def _siglip(folder: Path) -> int:
    words = sentencepiece(folder / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 40, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", settings | {"pad_token": "</s>", "eos_token": "</s>"})
    return words


def _gemma(folder: Path) -> int:
    """Gemma's shape: BPE over text whose spaces are ▁, bytes for what is unknown, an end token after each text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.lower() for text in TEXTS[:20]], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = document["added_tokens"][:5]  # bytes are words of the model, no tokens apart
    _write_json(folder / "tokenizer.json", document)
    settings = {"tokenizer_class": "GemmaTokenizer", "model_max_length": 40, "padding_side": "right"}
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    _write_json(folder / "tokenizer_config.json", settings | names)
    return len(document["model"]["vocab"])


TOKENIZERS = {
    "clip": _clip,
    "chinese_clip": _chinese,
    "altclip": _alt,
    "siglip": _siglip,
    "siglip2": _gemma,
    "siglip2_naflex": _gemma,
    "metaclip_2": _alt,
}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
