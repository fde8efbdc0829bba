"""Configuration files with the fields and values of published repositories, at the sizes of the tiny model."""

from typing import Any

import tiny

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
SIZE = {"height": tiny.SIZE, "width": tiny.SIZE}

CLIP: dict[str, dict[str, Any]] = {
    "config.json": {
        "_name_or_path": "openai/clip-vit-base-patch32",
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": tiny.DIM,
        "text_config": {
            "max_position_embeddings": tiny.CONTEXT,
            "vocab_size": 521,
            "model_type": "clip_text_model",
        },
        "vision_config": {"hidden_size": tiny.WIDTH, "image_size": tiny.SIZE, "model_type": "clip_vision_model"},
    },
    "preprocessor_config.json": {
        "crop_size": SIZE,
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": CLIP_MEAN,
        "image_processor_type": "CLIPFeatureExtractor",
        "image_std": CLIP_STD,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": tiny.SIZE},
    },
    "tokenizer_config.json": {
        "bos_token": {"__type": "AddedToken", "content": "<start_of_text>", "special": True},
        "eos_token": {"__type": "AddedToken", "content": "<end_of_text>", "special": True},
        "model_max_length": tiny.CONTEXT,
        "pad_token": "<end_of_text>",
        "tokenizer_class": "CLIPTokenizer",
    },
}
CHINESE: dict[str, dict[str, Any]] = {
    "config.json": {
        "_name_or_path": "OFA-Sys/chinese-clip-vit-base-patch16",
        "logit_scale_init_value": 2.6592,
        "model_type": "chinese_clip",
        "projection_dim": tiny.DIM,
        "text_config": {"max_position_embeddings": 512, "model_type": "chinese_clip_text_model"},
    },
    "preprocessor_config.json": {
        "do_center_crop": False,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "ChineseCLIPFeatureExtractor",
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
        "size": SIZE,
    },
    "tokenizer_config.json": {
        "cls_token": "[CLS]",
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<start_of_text>",
        "sep_token": "<end_of_text>",
        "tokenizer_class": "BertTokenizer",
    },
}
SIGLIP: dict[str, dict[str, Any]] = {
    "config.json": {
        "_name_or_path": "google/siglip-base-patch16-224",
        "initializer_factor": 1.0,
        "model_type": "siglip",
        "text_config": {"max_position_embeddings": tiny.CONTEXT, "hidden_size": tiny.DIM, "vocab_size": 32000},
        "vision_config": {"hidden_size": tiny.DIM, "image_size": tiny.SIZE, "model_type": "siglip_vision_model"},
    },
    "preprocessor_config.json": {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": SIZE,
    },
    "tokenizer_config.json": {
        "eos_token": "<end_of_text>",
        "model_max_length": tiny.CONTEXT,
        "pad_token": "<end_of_text>",
        "tokenizer_class": "SiglipTokenizer",
    },
}
IMMICH: dict[str, dict[str, Any]] = {
    "config.json": {
        "embed_dim": tiny.DIM,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": tiny.CONTEXT, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    },
    "visual/preprocess_cfg.json": {
        "size": [tiny.SIZE, tiny.SIZE],
        "mode": "RGB",
        "mean": CLIP_MEAN,
        "std": CLIP_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    },
    "textual/tokenizer_config.json": {
        "eos_token": "<end_of_text>",
        "model_max_length": 77,
        "pad_token": "<end_of_text>",
        "tokenizer_class": "CLIPTokenizer",
    },
}
FIXED = {"batch": 1, "length": tiny.CONTEXT}
