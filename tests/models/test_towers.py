import dataclasses

import pytest
import torch

from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.models.towers import Towers


def towers(weights: dict[str, torch.Tensor]) -> Towers:
    return Towers(
        name="test",
        family="test",
        source="test",
        vision=torch.nn.Identity(),
        text=torch.nn.Identity(),
        image_spec=ImageSpec(size=(8, 8), resize="squash", mean=(0, 0, 0), std=(1, 1, 1)),
        text_spec=TextSpec(
            cleaning="none", context_length=8, pad_id=0, pad_to="context", end_id=None, mask=False, cut_exact=False
        ),
        scoring=Scoring(kind="softmax", scale=10),
        tokenizer=b"{}",
        weights=weights,
        to_pixels=lambda images: None,
        to_tokens=lambda texts: None,
    )


A, B = torch.arange(6.0).reshape(2, 3), torch.ones(4)
BASE = towers({"a": A, "b": B}).weights_sha256()


def test_the_order_of_the_names_does_not_matter() -> None:
    assert towers({"b": B, "a": A}).weights_sha256() == BASE


def test_nor_does_how_a_tensor_lies_in_memory() -> None:
    assert towers({"a": A.t().contiguous().t(), "b": B}).weights_sha256() == BASE


@pytest.mark.parametrize(
    "weights",
    [
        {"a": A, "c": B},
        {"a": A, "b": B * 2},
        {"a": A.reshape(3, 2), "b": B},
        {"a": A, "b": B.half()},
        {"a": A, "b": B.bfloat16()},
        {"a": A},
    ],
    ids=["name", "value", "shape", "half", "bfloat16", "one less"],
)
def test_all_else_does(weights) -> None:
    assert towers(weights).weights_sha256() != BASE


def test_a_description_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        towers({}).name = "other"
