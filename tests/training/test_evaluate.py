from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from tuwen.errors import InvalidInput
from tuwen.training.config import EvaluateConfig
from tuwen.training.evaluate import Evaluation, accuracy, recall, score, torch_encoder

from .runs import write_pairs
from .towers import small_towers


def test_recall_by_definition() -> None:
    random = np.random.default_rng(0)
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in random.standard_normal((2, 40, 6)))
    owners = np.array([number // 2 for number in range(40)])
    images = images[:20].astype(np.float32)
    texts = texts.astype(np.float32)
    found = recall(images, texts, owners, (1, 3))
    for k in (1, 3):
        hits = [owners[j] in np.argsort(-(images @ texts[j]))[:k] for j in range(40)]
        assert found[f"text_to_image@{k}"] == pytest.approx(np.mean(hits))
        hits = [i in owners[np.argsort(-(texts @ images[i]))[:k]] for i in range(20)]
        assert found[f"image_to_text@{k}"] == pytest.approx(np.mean(hits))
    assert score(found | {"zeroshot@1": 0.0}) == pytest.approx(np.mean(list(found.values())))


def test_towers_that_give_one_vector_for_all_find_nothing() -> None:
    same = np.tile(np.array([[0.6, 0.8]], np.float32), (10, 1))
    assert set(recall(same, same, np.arange(10), (1, 3)).values()) == {0.0}
    assert accuracy(same, same, np.arange(10), (1, 3)) == {"zeroshot@1": 0.0, "zeroshot@3": 0.0}


def test_accuracy_by_definition() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((1500, 64))
    images = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    labels, right = images[:20], np.arange(1500) % 20
    found = accuracy(images, labels, right, (1, 3))
    for k in (1, 3):
        hits = [right[i] in np.argsort(-(labels.astype(float) @ images[i]))[:k] for i in range(1500)]
        assert found[f"zeroshot@{k}"] == pytest.approx(np.mean(hits))
    assert accuracy(labels, labels, np.arange(20), (1,)) == {"zeroshot@1": 1.0}


def test_a_caption_that_two_pictures_share_is_found() -> None:
    images, texts = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]
    images[3] = images[2]
    assert set(recall(images, texts, np.arange(4), (1,)).values()) == {1.0}


def test_the_encoder_is_the_towers_as_they_are_now(tmp_path: Path) -> None:
    towers = small_towers()
    encoder = torch_encoder(towers, tmp_path, "cpu", "fp32")
    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    for _ in range(2):
        with torch.no_grad():
            wanted = normalize(towers.vision(torch.from_numpy(towers.to_pixels(images))), dim=-1)
            texts = normalize(towers.text(torch.from_numpy(towers.to_tokens(["a dog", "cat"]).ids)), dim=-1)
            np.testing.assert_allclose(encoder.encode_images(images), wanted, atol=1e-5)
            np.testing.assert_allclose(encoder.encode_texts(["a dog", "cat"]), texts, atol=1e-5)
            towers.vision.tower.proj.add_(torch.randn_like(towers.vision.tower.proj))


def test_pairs_and_classes(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 6)
    (pairs / "bad.jpg").write_bytes(b"no picture")
    (pairs / "bad.txt").write_text("a bad one")
    for name, colour in (("light_red", "red"), ("blue", "blue"), ("green", "green")):
        (tmp_path / "classes" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), colour).save(tmp_path / "classes" / name / "a.png")
    config = EvaluateConfig(pairs=str(pairs), zeroshot=tmp_path / "classes", batch=4, k=(1, 2, 5))
    evaluation = Evaluation(config, "fp32", "cpu")
    figures = evaluation.measure(small_towers())
    assert set(figures) == {f"{way}@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 2, 5)} | {
        "zeroshot@1",
        "zeroshot@2",
    }
    assert evaluation.skipped == 1
    assert 0 <= figures["zeroshot@1"] <= figures["zeroshot@2"] <= 1


def test_nothing_to_measure_is_told_before_training(tmp_path: Path) -> None:
    assert not Evaluation(EvaluateConfig(), "fp32", "cpu").wanted
    (tmp_path / "one").mkdir()
    with pytest.raises(InvalidInput, match="a folder of pictures for each class, two at least"):
        Evaluation(EvaluateConfig(zeroshot=tmp_path), "fp32", "cpu")
