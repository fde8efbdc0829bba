"""What benchmarks work on: the same everywhere, different in every round, or a person's own."""

import io

import pytest
from PIL import Image

from tuwen.bench.workloads import PHOTO, captions, material, photo, questions
from tuwen.errors import InvalidInput


def test_captions_differ_within_a_round_and_between_rounds() -> None:
    first, second = captions(64, 0), captions(64, 1)
    assert len(set(first)) == 64
    assert captions(64, 0) == first
    assert len(set(first) & set(second)) < 4
    assert {len(text.split()) for text in first} <= set(range(6, 15))


def test_fifty_questions_are_all_different_and_half_of_them_chinese() -> None:
    asked = questions(3)
    assert len(set(asked)) == 50
    assert sum(text.startswith("一张") for text in asked) == 25
    assert set(questions(4)) != set(asked)


def test_a_made_photo_is_a_jpeg_of_a_photograph_s_weight() -> None:
    content = photo(0)
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", PHOTO)
    assert 100_000 < len(content) < 1_000_000
    assert photo(1) != content


def test_pictures_and_captions_of_one_s_own(tmp_path) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    (tmp_path / "texts.txt").write_text("eins\n\nzwei\ndrei\n", encoding="utf-8")
    own = material([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "texts.txt")
    assert own.pictures(3) == [(tmp_path / name).read_bytes() for name in ("a.png", "b.png", "a.png")]
    assert (own.texts(2, 0), own.texts(2, 1)) == (["eins", "zwei"], ["drei", "eins"])


def test_nothing_to_work_on(tmp_path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InvalidInput) as caught:
        material([tmp_path], None)
    assert caught.value.value == str(tmp_path)
    for name in ("empty.txt", "latin.txt"):
        with pytest.raises(InvalidInput) as caught:
            material([], tmp_path / name)
        assert caught.value.where == tmp_path / name
