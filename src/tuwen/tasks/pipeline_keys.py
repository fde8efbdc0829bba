"""The keys of another tool's CLIP pipeline, and what each may be.

A key is *used*; or *idle*, where no result could depend on it; or another is to be written *instead*. The table for
people is the guide `pipeline.md`. Knows keys one by one. Does not know how they go together: see `pipeline.py`.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

BUILDS = {"image_index_build": "image", "text_index_build": "text"}
"""mode -> what goes into the index"""
SEARCHES = {
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "image-to-image": ("image", "image"),
    "text-to-text": ("text", "text"),
}
"""mode -> what is asked with, and what is found"""
OPERATIONS = ("new", "append", "remove")
Check: TypeAlias = Callable[[Any], bool]
_TEXT: tuple[Check, str] = (lambda value: isinstance(value, str) and value != "", "a text")
_FLAG: tuple[Check, str] = (lambda value: isinstance(value, bool), "True or False")
_COUNT: tuple[Check, str] = (lambda value: type(value) is int and value > 0, "a whole number above 0")
_COSINE: tuple[Check, str] = (lambda value: type(value) in (int, float) and -1 <= value <= 1, "a cosine, -1 to 1")


def _one_of(*values: str) -> tuple[Check, str]:
    return lambda value: value in values, f"one of {', '.join(values)}"


USED: Mapping[str, tuple[Check, str]] = {
    "Global.mode": _one_of(*BUILDS, *SEARCHES),
    "Global.infer_imgs": _TEXT,
    "Global.texts": _TEXT,
    "Global.model": _TEXT,
    "Global.inference_image_encoder_dir": _TEXT,
    "Global.inference_text_encoder_dir": _TEXT,
    "Global.embedding_size": _COUNT,
    "Global.use_gpu": _FLAG,
    "Global.use_tensorrt": _FLAG,
    "Global.use_fp16": _FLAG,
    "Global.cpu_num_threads": _COUNT,
    "PreProcess.transform_ops": (lambda value: isinstance(value, list), "a list of operations"),
    "IndexProcess.index_method": _one_of("HNSW32", "IVF", "Flat"),
    "IndexProcess.image_index_dir": _TEXT,
    "IndexProcess.text_index_dir": _TEXT,
    "IndexProcess.index_operation": _one_of(*OPERATIONS),
    "IndexProcess.image_root": _TEXT,
    "IndexProcess.data_file": _TEXT,
    "IndexProcess.delimiter": _TEXT,
    "IndexProcess.dist_type": _one_of("IP", "L2"),
    "IndexProcess.embedding_size": _COUNT,
    "IndexProcess.return_k": _COUNT,
    "IndexProcess.score_thres": _COSINE,
}
"""what a key may be, and that in words"""
IDLE = (
    "Global.batch_size",
    "Global.enable_mkldnn",
    "Global.enable_benchmark",
    "Global.ir_optim",
    "Global.gpu_mem",
    "Global.enable_profile",
    "IndexProcess.batch_size",
)
"""nothing that is found depends on these: batches and memory are managed, CPUs always compute with oneDNN"""
INSTEAD = {
    "Global.inference_model_dir": "one model encodes pictures and texts: write Global.model, or give --model",
    "Global.rec_inference_model_dir": "one model encodes pictures and texts: write Global.model, or give --model",
    "Global.pretrained_model": "a Paddle checkpoint cannot be run: write Global.model, or give --model",
    "IndexProcess.index_dir": "write image_index_dir and text_index_dir",
    "IndexProcess.hamming_radius": "binary vectors are not kept: leave it out, and write score_thres",
}
"""keys of the pipeline's other configurations"""
DEFAULTS: Mapping[str, Any] = {
    "IndexProcess.index_operation": "new",
    "IndexProcess.delimiter": "\t",
    "IndexProcess.return_k": 1,
    "IndexProcess.score_thres": 0.5,
    "IndexProcess.image_root": ".",
}


def wrong(key: str, value: object) -> Iterator[str]:
    """What is wrong with one key."""
    if key in USED:
        fits, words = USED[key]
        if not fits(value):
            yield f"{key}: {value!r} cannot be used: write {words}"
    elif key in INSTEAD:
        yield f"{key} cannot be used: {INSTEAD[key]}"
    elif key not in IDLE:
        near = difflib.get_close_matches(key, (*USED, *IDLE), n=1)
        yield f"{key} is not known: " + (f"did you mean {near[0]}?" if near else "leave it out")
