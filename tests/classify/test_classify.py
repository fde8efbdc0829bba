from pathlib import Path

import numpy as np
import pytest

import tuwen
from tuwen.bundle.manifest import Scoring
from tuwen.classify.classifier import Classifier, predictions, probabilities
from tuwen.classify.labels import LabelVectors
from tuwen.demo import demo_gallery
from tuwen.errors import InvalidInput, RejectedImages

SOFTMAX = Scoring(kind="softmax", scale=100.0)
SIGMOID = Scoring(kind="sigmoid", scale=117.3, bias=-12.9)
COSINES = np.array([[0.30, 0.25, 0.10]], np.float32)
NEUTRAL = np.array([0.25], np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_softmax_uses_the_model_s_scale() -> None:
    expected = np.exp([30.0, 25.0, 10.0]) / np.exp([30.0, 25.0, 10.0]).sum()
    np.testing.assert_allclose(probabilities(COSINES, NEUTRAL, SOFTMAX, multi_label=False)[0], expected, rtol=1e-5)


def test_sigmoid_uses_scale_and_bias_and_each_label_alone() -> None:
    expected = [sigmoid(117.3 * cosine - 12.9) for cosine in (0.30, 0.25, 0.10)]
    for multi_label in (False, True):
        found = probabilities(COSINES, NEUTRAL, SIGMOID, multi_label=multi_label)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_many_labels_of_a_softmax_model_stand_against_the_empty_template() -> None:
    found = probabilities(COSINES, NEUTRAL, SOFTMAX, multi_label=True)[0]
    np.testing.assert_allclose(found, [sigmoid(5), 0.5, sigmoid(-15)], rtol=1e-4)
    alone = probabilities(COSINES[:, :1], NEUTRAL, SOFTMAX, multi_label=True)[0]
    assert alone[0] == pytest.approx(found[0]), "a label's probability depends on the others"
    two = np.exp([30.0, 25.0]) / np.exp([30.0, 25.0]).sum()
    assert found[0] == pytest.approx(two[0], rel=1e-4), "it is the softmax over label and empty template"


@pytest.mark.parametrize("scoring", [Scoring(kind="softmax", scale=1e5), Scoring(kind="sigmoid", scale=1e5, bias=0)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_no_scale_overflows(scoring: Scoring, multi_label: bool) -> None:
    found = probabilities(np.array([[1.0, -1.0, 0.0]], np.float32), NEUTRAL, scoring, multi_label=multi_label)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


LABELS = LabelVectors(("a", "b", "c"), np.eye(3, dtype=np.float32), np.zeros(3, np.float32))


def test_labels_come_best_first_also_where_probabilities_are_equal() -> None:
    vectors = np.array([[0.6, 0.0, 0.8]], np.float32)
    (found,) = predictions(["x"], vectors, LABELS, Scoring(kind="softmax", scale=1e6), multi_label=False)
    assert [(label.label, label.probability) for label in found.labels] == [("c", 1.0), ("a", 0.0), ("b", 0.0)]
    assert found.labels[1].cosine == pytest.approx(0.6)
    assert found.best == found.labels[0]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("scoring", [SOFTMAX, SIGMOID])
def test_none_of_these_depends_on_the_best_label_alone(scoring: Scoring, multi_label: bool) -> None:
    vectors = np.array([[0.12, 0.11, 0.0], [-0.1, -0.2, 0.0]], np.float32)
    labels = LabelVectors(LABELS.labels[:2], LABELS.vectors[:2], LABELS.vectors[2])
    few = LabelVectors(("a",), LABELS.vectors[:1], LABELS.vectors[2])
    for known in (labels, few):
        first, second = predictions(["x", "y"], vectors, known, scoring, multi_label=multi_label, none_below=0.25)
        assert (first.none, second.none) == (False, True)
        assert second.best is None
        assert len(second.labels) == len(known.labels)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        predictions([], np.empty((0, 3), np.float32), LABELS, SOFTMAX, multi_label=False, none_below=threshold)
    assert caught.value.value is threshold


def settled(encoder, path: Path, labels: list[str], **options: object):
    found = list(Classifier(encoder, labels, **options).stream(path))
    return [item for batch in found for item in batch.predictions], [x for batch in found for x in batch.rejected]


def test_every_image_of_a_folder_gets_its_colour(encoder, photos: Path) -> None:
    broken = photos / "blue" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    found, rejected = settled(encoder, photos, ["green", "blue", "red"])
    assert [item.path for item in rejected] == ["blue/broken.jpg"]
    best = {item.path: item.best.label for item in found}
    expected = {f"{colour}/{colour}-{i}.jpg": colour for colour in ("red", "green", "blue") for i in range(3)}
    assert {path: label for path, label in best.items() if path in expected} == expected
    assert list(best) == sorted(best)
    assert "notes.txt" not in best


def test_predict_names_all_images_that_cannot_be_read(encoder, photos: Path) -> None:
    classifier = Classifier(encoder, ["red", "blue"])
    with pytest.raises(RejectedImages) as caught:
        classifier.predict([photos / "red" / "red-0.jpg", b"broken", photos / "absent.jpg"])
    assert [item.path for item in caught.value.rejected] == ["images[1]", str(photos / "absent.jpg")]


def test_one_image_gets_all_labels_best_first(encoder, photos: Path) -> None:
    (one,) = Classifier(encoder, ["红", "绿", "蓝"]).predict(photos / "blue" / "blue-0.jpg")
    assert one.path == "blue-0.jpg"
    assert one.best.label == "蓝"
    assert sum(label.probability for label in one.labels) == pytest.approx(1.0)
    cosines = [label.cosine for label in one.labels]
    assert cosines == sorted(cosines, reverse=True)


def test_a_label_alone_is_judged_by_itself(encoder, photos: Path) -> None:
    for label, low, high in (("blue", 0.9, 1.0), ("red", 0.0, 0.1)):
        classifier = Classifier(encoder, [label], template=["_", "a _"], multi_label=True)
        (one,) = classifier.predict([photos / "blue" / "blue-0.jpg"], none_below=0.5)
        assert low <= one.labels[0].probability <= high
        assert one.none == (label == "red")


def test_an_encoder_makes_classifiers(photos: Path) -> None:
    classifier = tuwen.load("demo", precision="fp32").classifier(["dog", "cat"], "a picture of a _", multi_label=True)
    assert (classifier.labels, classifier.multi_label) == (("dog", "cat"), True)
    (found,) = classifier.predict([demo_gallery() / "animals-and-nature" / "dog-face.webp"])
    assert found.best.label == "dog"
