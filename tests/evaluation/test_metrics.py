"""Metrics equal those of direct implementations and of scikit-learn, whatever the block size."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen.evaluation.metrics import (
    Classification,
    classification,
    difference,
    interval,
    multi_label,
    overlap,
    retrieval,
    scored,
    top_k,
)


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(images: int, captions: tuple[int, int], *, dim: int = 24, seed: int = 0, noise: float = 1.0):
    """Vectors of images, of captions near them, and whose captions these are, in no particular order."""
    chance = np.random.default_rng(seed)
    pictures = unit(chance.standard_normal((images, dim)))
    owners = np.repeat(np.arange(images), chance.integers(captions[0], captions[1] + 1, size=images))
    chance.shuffle(owners)
    return pictures, unit(pictures[owners] + noise * chance.standard_normal((len(owners), dim)) / dim**0.5), owners


def direct(images, texts, owners) -> dict[str, float]:
    """The definitions, word by word, on float64 scores rounded so that equals are equal."""
    scores = np.round(texts.astype(np.float64) @ images.astype(np.float64).T, 9)
    image_ranks, text_ranks, precisions = [], [], []
    for text, owner in enumerate(owners):
        image_ranks.append(1 + sum(scores[text, i] >= scores[text, owner] for i in range(len(images)) if i != owner))
    for image in sorted(set(owners)):
        column = scores[:, image]
        ranked = sorted(range(len(texts)), key=lambda text: (-column[text], owners[text] == image))
        right = [place for place, text in enumerate(ranked, start=1) if owners[text] == image]
        text_ranks.append(right[0])
        precisions.append(np.mean([number / place for number, place in enumerate(right, start=1)]))
    found = {f"image_retrieval_recall@{k}": np.mean(np.array(image_ranks) <= k) for k in (1, 5, 10)}
    found |= {f"text_retrieval_recall@{k}": np.mean(np.array(text_ranks) <= k) for k in (1, 5, 10)}
    found |= {"image_retrieval_map": np.mean(1 / np.array(image_ranks)), "text_retrieval_map": np.mean(precisions)}
    medians = {"image_retrieval_median_rank": image_ranks, "text_retrieval_median_rank": text_ranks}
    return found | {name: float(np.median(ranks)) for name, ranks in medians.items()}


CASES = {
    "one caption each": (50, (1, 1)),
    "five captions each": (40, (5, 5)),
    "uneven, some without": (60, (0, 7)),
    "one image": (1, (3, 3)),
}


@pytest.mark.parametrize("block", [7, 64, 4096])
@pytest.mark.parametrize("case", CASES)
def test_retrieval_is_as_defined(case: str, block: int) -> None:
    images, texts, owners = pairs(*CASES[case])
    assert retrieval(images, texts, owners, block=block).metrics() == pytest.approx(direct(images, texts, owners))


@pytest.mark.parametrize("block", [5, 4096])
@pytest.mark.parametrize("dim", [3, 512])
def test_ties_count_against_the_model(dim: int, block: int) -> None:
    images, texts, owners = pairs(30, (2, 4), dim=dim, seed=1)
    images[10:20] = images[0]  # ten images that are the same
    texts[20:30] = texts[5]  # and texts that many images share
    assert retrieval(images, texts, owners, block=block).metrics() == pytest.approx(direct(images, texts, owners))


def test_a_model_that_tells_nothing_apart_finds_nothing() -> None:
    chance = np.random.default_rng(0)
    same = unit(chance.standard_normal((1, 512)))
    figures = retrieval(np.repeat(same, 300, 0), np.repeat(same, 900, 0), np.repeat(np.arange(300), 3)).metrics()
    assert figures["image_retrieval_recall@10"] == figures["text_retrieval_recall@10"] == 0
    assert figures["image_retrieval_median_rank"] == 300
    assert figures["text_retrieval_median_rank"] == 898


def test_many_tiles_count_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts, owners = pairs(2500, (1, 2), dim=8, noise=3)
    whole = retrieval(images, texts, owners)
    monkeypatch.setattr("tuwen.evaluation.metrics._TILE", 16)
    parts = retrieval(images[:400], texts[owners < 400], owners[owners < 400], block=100)
    monkeypatch.undo()
    again = retrieval(images[:400], texts[owners < 400], owners[owners < 400])
    np.testing.assert_array_equal(parts.image_ranks, again.image_ranks)
    np.testing.assert_array_equal(parts.ahead, again.ahead)
    scores = texts.astype(np.float64) @ images.T.astype(np.float64)
    own = scores[np.arange(len(texts)), owners]
    np.testing.assert_array_equal(whole.image_ranks, (scores >= own[:, None]).sum(axis=1))


@pytest.mark.parametrize(("images", "classes"), [(200, 12), (60, 3), (9, 30)])
def test_classification_is_as_defined(images: int, classes: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    chance = np.random.default_rng(2)
    names = unit(chance.standard_normal((classes, 16)))
    labels = chance.integers(max(1, classes - 2), size=images)  # the last classes have no images
    vectors = unit(names[labels] + chance.standard_normal((images, 16)) / 2)
    result = classification(vectors, names, labels)
    scores = vectors.astype(np.float64) @ names.T
    best = np.argsort(-scores, axis=1)
    wanted = {f"acc{k}": np.mean([label in row[:k] for label, row in zip(labels, best, strict=True)]) for k in (1, 5)}
    if classes < 5:
        del wanted["acc5"]
    wanted["mean_per_class_recall"] = np.mean([(best[labels == c, 0] == c).mean() for c in set(labels)])
    assert result.metrics() == pytest.approx(wanted)
    np.testing.assert_array_equal(result.predicted, best[:, 0])
    assert result.metrics()["mean_per_class_recall"] == pytest.approx(
        sklearn.recall_score(labels, best[:, 0], average="macro", labels=sorted(set(labels)))
    )
    table = sklearn.confusion_matrix(labels, best[:, 0], labels=range(classes))
    np.fill_diagonal(table, 0)
    found = result.confusions(1000)
    assert {(one, other): often for one, other, often in found} == {
        (i, j): table[i, j] for i, j in product(range(classes), repeat=2) if table[i, j]
    }
    assert [often for *_, often in found] == sorted((often for *_, often in found), reverse=True)


def test_equally_good_classes_are_a_mistake() -> None:
    scores = np.array([[1.0, 1.0, 0.0], [0.5, 0.2, 0.1], [0.3, 0.3, 0.3]])
    result = scored(scores, np.array([0, 0, 2]))
    assert result.ranks.tolist() == [2, 1, 3]
    assert result.predicted.tolist() == [1, 0, 0]
    assert result.metrics()["acc1"] == pytest.approx(1 / 3)
    assert np.isnan(result.per_class()[1])


@pytest.mark.parametrize("tied", [False, True])
def test_multi_label_average_precision(tied: bool) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    chance = np.random.default_rng(3)
    scores, targets = chance.random((80, 6)), chance.random((80, 6)) < 0.3
    targets[:, 5] = False
    if not tied:
        wanted = [sklearn.average_precision_score(targets[:, c], scores[:, c]) for c in range(5)] + [0.0]
        assert multi_label(scores, targets).per_class() == pytest.approx(wanted)
        return
    scores[:] = 0.5  # all the wrong ones stand first
    right, total = targets.sum(axis=0), len(targets)
    worst = [np.mean([(i + 1) / (total - p + i + 1) for i in range(p)]) if p else 0 for p in right]
    assert multi_label(scores, targets).per_class() == pytest.approx(worst)


@pytest.mark.parametrize("kind", ["retrieval", "classification", "multi label"])
def test_a_resample_is_measured_as_if_its_images_were_there(kind: str) -> None:
    chance = np.random.default_rng(4)
    weights = np.bincount(chance.integers(30, size=30), minlength=30)
    rows = np.repeat(np.arange(30), weights)
    if kind == "multi label":
        scores, targets = chance.random((30, 5)), chance.random((30, 5)) < 0.4
        found = multi_label(scores, targets).metrics(weights)
        assert found == pytest.approx(multi_label(scores[rows], targets[rows]).metrics())
    elif kind == "classification":
        scores, labels = chance.random((30, 6)), chance.integers(6, size=30)
        assert scored(scores, labels).metrics(weights) == pytest.approx(scored(scores[rows], labels[rows]).metrics())
    else:
        images, texts, owners = pairs(30, (0, 4), seed=5)
        result = retrieval(images, texts, owners)
        drawn = [result.image_ranks[owners == row] for row in rows]
        found = result.metrics(weights)
        assert found["image_retrieval_recall@1"] == pytest.approx(np.mean(np.concatenate(drawn) <= 1))
        assert found["image_retrieval_median_rank"] == np.median(np.concatenate(drawn))
        ranks = result.text_ranks[rows]
        assert found["text_retrieval_median_rank"] == np.median(ranks[ranks > 0])
        assert found["text_retrieval_recall@5"] == pytest.approx(np.mean(ranks[ranks > 0] <= 5))


def test_intervals_are_repeatable_and_cover() -> None:
    chance = np.random.default_rng(6)
    covered = 0
    for number in range(60):
        right = chance.random(150) < 0.7
        result = Classification(2, np.zeros(150, int), np.where(right, 1, 2), np.where(right, 0, 1))
        low, high = interval(result, resamples=200, seed=number)["acc1"]
        covered += low <= 0.7 <= high
    assert covered >= 51  # 95 % of 60 is 57
    assert interval(result, resamples=50) == interval(result, resamples=50)
    assert interval(result, resamples=50) != interval(result, resamples=50, seed=1)


def test_intervals_are_of_95_percent() -> None:
    """With 400 images of which 70 % are right, the mean is normal, with a known standard error."""
    right = np.arange(400) < 280
    result = Classification(2, np.zeros(400, int), np.where(right, 1, 2), np.where(right, 0, 1))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert interval(result)["acc1"] == pytest.approx((0.7 - half, 0.7 + half), abs=0.005)  # of 90 %: 0.007 less
    none = Classification(2, np.zeros(400, int), np.full(400, 2), np.ones(400, int))
    change = difference(result, none)["acc1"]
    assert (change.low, change.high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.005)


def test_a_paired_difference_is_narrower_than_both() -> None:
    chance = np.random.default_rng(7)
    labels, scores = chance.integers(5, size=300), chance.random((300, 5))
    scores[np.arange(300), labels] += 0.5
    other = scores.copy()
    other[:6] = chance.random((6, 5))
    one, two = scored(scores, labels), scored(other, labels)
    change = difference(one, two)["acc1"]
    low, high = interval(one)["acc1"]
    assert change.value == pytest.approx(one.metrics()["acc1"] - two.metrics()["acc1"])
    assert change.low <= change.value <= change.high
    assert change.high - change.low < (high - low) / 2
    same = difference(one, one)["acc1"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize("block", [9, 4096])
def test_top_k_is_the_start_of_a_full_sort(block: int) -> None:
    images, texts, _ = pairs(70, (1, 1), seed=8)
    wanted = np.argsort(-(texts @ images.T), axis=1, kind="stable")
    np.testing.assert_array_equal(top_k(texts, images, 10, block=block), wanted[:, :10])
    assert top_k(texts, images[:4], 10, block=block).shape == (70, 4)


def test_overlap() -> None:
    assert overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 5]])) == pytest.approx(0.75)
