from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from tuwen.errors import InvalidInput
from tuwen.evaluation.metrics import classification, retrieval
from tuwen.training.config import EvaluateConfig
from tuwen.training.evaluate import Evaluation, accuracies, recalls, score, torch_encoder

from .runs import write_pairs
from .towers import small_towers


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_recalls_at_any_k() -> None:
    images, texts, owners = unit(20, 6, 0), unit(40, 6, 1), np.arange(40) // 2
    found = recalls(retrieval(images, texts, owners, ks=(1, 3)))
    for k in (1, 3):
        hits = [owners[j] in np.argsort(-(images @ texts[j]))[:k] for j in range(40)]
        assert found[f"image_retrieval_recall@{k}"] == pytest.approx(np.mean(hits))
        hits = [i in owners[np.argsort(-(texts @ images[i]))[:k]] for i in range(20)]
        assert found[f"text_retrieval_recall@{k}"] == pytest.approx(np.mean(hits))
    assert score(found | {"acc1": 0.0}) == pytest.approx(np.mean(list(found.values())))


def test_accuracies_at_any_k() -> None:
    images, right = unit(150, 64, 0), np.arange(150) % 20
    found = accuracies(classification(images, images[:20], right, ks=(1, 3)))
    for k in (1, 3):
        hits = [right[i] in np.argsort(-(images[:20].astype(float) @ images[i]))[:k] for i in range(150)]
        assert found[f"acc{k}"] == pytest.approx(np.mean(hits))


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
    assert set(figures) == {f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 2, 5)} | {
        "acc1",
        "acc2",
    }
    assert evaluation.skipped == 1
    assert 0 <= figures["acc1"] <= figures["acc2"] <= 1


def test_nothing_to_measure_is_told_before_training(tmp_path: Path) -> None:
    assert not Evaluation(EvaluateConfig(), "fp32", "cpu").wanted
    (tmp_path / "one").mkdir()
    with pytest.raises(InvalidInput) as raised:
        Evaluation(EvaluateConfig(zeroshot=tmp_path), "fp32", "cpu")
    assert raised.value.value == tmp_path
