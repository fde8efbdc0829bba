"""Where each file of a bundle stands: the names that the Hugging Face ONNX community already uses."""

from typing import Literal

from tuwen.bundle.manifest import Precision

Tower = Literal["vision", "text"]

TOWERS: tuple[Tower, ...] = ("vision", "text")
MANIFEST = "tuwen.json"
TOKENIZER = "tokenizer.json"


def graph(tower: Tower, precision: Precision) -> str:
    """The path, within a bundle, of one tower's ONNX graph."""
    suffix = "" if precision == "fp32" else f"_{precision}"
    return f"onnx/{tower}_model{suffix}.onnx"
