from pathlib import Path

import numpy as np
import pytest

from tuwen.classify.labels import fill, label_vectors, read_labels, split_labels
from tuwen.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat,dog", ("cat", "dog")),
        (" cat , dog,", ("cat", "dog")),
        ("猫，狗、鸟", ("猫", "狗", "鸟")),
        ("قطة، كلب", ("قطة", "كلب")),
        ("one label", ("one label",)),
    ],
)
def test_labels_are_split_at_the_commas_of_every_script(text: str, labels: tuple[str, ...]) -> None:
    assert split_labels(text) == labels


@pytest.mark.parametrize("text", ["", " , ,", "，"])
def test_no_label_is_an_error(text: str) -> None:
    with pytest.raises(InvalidInput):
        split_labels(text)


def test_a_label_twice_is_an_error() -> None:
    with pytest.raises(InvalidInput) as raised:
        split_labels("cat,dog,cat")
    assert raised.value.value == "cat"


@pytest.mark.parametrize("content", [b"cat\ndog, big\n", b"\xef\xbb\xbfcat\r\n\r\ndog, big\r\n", b"\n  cat \ndog, big"])
def test_a_file_has_a_label_a_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "标签.txt"
    file.write_bytes(content)
    assert read_labels(file) == ("cat", "dog, big")


MANY = "一只在草地上奔跑的狗\n两个坐在桌子旁边的孩子\n一个骑着自行车的女人\n窗台上睡觉的猫\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_encodings_that_a_file_tells_are_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(MANY.encode(encoding))
    assert read_labels(file) == tuple(MANY.split())


def test_another_encoding_is_named_and_can_be_given(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(MANY.encode("gb18030"))
    with pytest.raises(InvalidInput) as raised:
        read_labels(file)
    assert raised.value.where == file
    assert read_labels(file, str(raised.value.value)) == read_labels(file, "gb18030") == tuple(MANY.split())


@pytest.mark.parametrize("content", ["狗\n".encode("gb18030"), b"cat\nd\xffg\n"])
def test_a_single_line_that_is_not_utf8_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as raised:
        read_labels(file)
    assert (raised.value.value, raised.value.where) == (content.count(b"\n"), file)
    assert "--encoding" in raised.value.hint


@pytest.mark.parametrize("content", ["cat\ncat\n", "\n\n"])
def test_a_file_without_different_labels_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "labels.txt"
    file.write_text(content)
    with pytest.raises(InvalidInput) as raised:
        read_labels(file)
    assert raised.value.where == str(file)


@pytest.mark.parametrize(
    ("template", "text"),
    [("a photo of a _", "a photo of a cat"), ("一张{}的照片", "一张cat的照片"), ("_", "cat"), ("{} {", "cat {")],
)
def test_a_template_takes_the_label_at_its_slot(template: str, text: str) -> None:
    assert fill(template, "cat") == text


def test_a_label_with_a_slot_in_it_stays_as_it_is() -> None:
    assert fill("a photo of a _", "snake_case {}") == "a photo of a snake_case {}"


@pytest.mark.parametrize("template", ["", "a photo", "_ and _", "_ and {}", "{}{}", "__"])
def test_a_template_needs_exactly_one_slot(template: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        fill(template, "cat")
    assert (raised.value.value, raised.value.where) == (template, "template")


def test_no_template_is_an_error(encoder) -> None:
    with pytest.raises(InvalidInput):
        label_vectors(["cat"], [], encoder)


def test_a_label_s_vector_is_the_mean_over_the_templates(encoder) -> None:
    found = label_vectors(["red", "blue"], ["a photo of a _", "a {}"], encoder)
    assert found.labels == ("red", "blue")
    for label, vector in zip(found.labels, found.vectors, strict=True):
        mean = encoder.encode_texts([f"a photo of a {label}", f"a {label}"]).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    neutral = encoder.encode_texts(["a photo of a", "a"]).mean(axis=0)
    np.testing.assert_allclose(found.neutral, neutral / np.linalg.norm(neutral), atol=1e-6)
