from typing import Any

import pytest

import tiny
from tuwen.bundle.manifest import File, ImageSpec, Scoring


def test_the_fingerprint_is_what_it_was() -> None:
    """An index of an earlier version must know its model again: this value may never change."""
    assert tiny.manifest(tokenizer_sha256="0" * 64).fingerprint() == "3c83e58825178e6b"


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": "1" * 64},
        {"tokenizer_sha256": "1" * 64},
        {"image": tiny.IMAGE.model_copy(update={"mean": (0.0, 0.0, 0.0)})},
        {"image": tiny.IMAGE.model_copy(update={"resize": "squash"})},
        {"image": tiny.IMAGE.model_copy(update={"crop_rounding": "floor"})},
        {"image": ImageSpec(**(tiny.IMAGE.model_dump() | {"edge": 10}))},
        {"text": tiny.TEXT.model_copy(update={"cleaning": "none"})},
        {"text": tiny.TEXT.model_copy(update={"context_length": 20})},
        {"text": tiny.TEXT.model_copy(update={"mask": True})},
        {"text": tiny.TEXT.model_copy(update={"end_id": None})},
    ],
)
def test_what_changes_a_vector_changes_the_fingerprint(changes: dict[str, Any]) -> None:
    assert tiny.manifest(**changes).fingerprint() != tiny.manifest().fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"source": "elsewhere"},
        {"licence": "MIT"},
        {"scoring": Scoring(kind="softmax", scale=1.0)},
        {"files": {"onnx/text_model.onnx": File(sha256="1" * 64, bytes=1)}},
        {"text": tiny.TEXT.model_copy(update={"languages": ("en",)})},
        {"text": tiny.TEXT.model_copy(update={"cut_exact": False})},
        {"facts": {"recall": 0.5}},
    ],
)
def test_what_does_not_change_a_vector_leaves_the_fingerprint(changes: dict[str, Any]) -> None:
    assert tiny.manifest(**changes).fingerprint() == tiny.manifest().fingerprint()
