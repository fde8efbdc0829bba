from pathlib import Path

import numpy as np
import pytest

from tuwen.bulk.items import embed_items, save_items
from tuwen.errors import InvalidInput, RejectedImages


def test_pictures_and_texts_in_their_order(encoder, photos: Path, tmp_path: Path) -> None:
    picture = str(photos / "red" / "red-0.jpg")
    items = embed_items(["a red photo", picture, "a red photo", ""], encoder)
    assert [item.type for item in items] == ["text", "image", "text", "text"]
    np.testing.assert_allclose(items[1].vector, encoder.encode_images([picture])[0], atol=1e-6)
    np.testing.assert_allclose(items[2].vector, encoder.encode_texts(["a red photo"])[0], atol=1e-6)
    save_items(items, tmp_path / "x.npy")
    saved = np.load(tmp_path / "x.npy")
    assert (saved.shape, saved.dtype) == ((4, encoder.dim), np.float32)


def test_a_text_is_a_text_even_if_a_file_is_called_so(encoder, photos: Path) -> None:
    picture = str(photos / "red" / "red-0.jpg")
    items = embed_items([picture], encoder, texts=[picture, "red"])
    assert [(item.input, item.type) for item in items] == [(picture, "image"), (picture, "text"), ("red", "text")]
    np.testing.assert_allclose(items[1].vector, encoder.encode_texts([picture])[0], atol=1e-6)


def test_what_cannot_be_embedded_or_written(encoder, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        embed_items(["none.jpg"], encoder)
    assert raised.value.value == "none.jpg"
    assert embed_items(["a photo of none.jpg", "x" * 5000], encoder)[0].type == "text"
    with pytest.raises(RejectedImages):
        embed_items([str(photos / "notes.txt")], encoder)
    with pytest.raises(InvalidInput) as raised:
        save_items([], tmp_path / "no" / "x.npy")
    assert raised.value.value == tmp_path / "no"
