"""Published figures, where a hub and the datasets are there: TUWEN_FLICKR30K and TUWEN_IMAGENET name their folders."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cli.running import run
from tuwen.classify import selection
from tuwen.classify.methods import METHODS, Support

pytestmark = [pytest.mark.hub, pytest.mark.timeout(0)]


def folder_of(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name the folder of the dataset")
    return Path(os.environ[variable])


def test_recall_on_flickr30k(tmp_path: Path) -> None:
    """ViT-B/32 of LAION-2B on Karpathy's test split, as open_clip publishes it."""
    folder = folder_of("TUWEN_FLICKR30K")
    model = "ViT-B-32/laion2b_s34b_b79k"
    assert run("pull", model).exit_code == 0
    ended = run(
        *("evaluate", model, folder / "dataset_flickr30k.json", "--images", folder / "flickr30k-images"),
        *("--split", "test", "--precision", "fp32", "--exact-decode", "--vectors", tmp_path, "--json"),
    )
    assert ended.exit_code == 0, ended.stderr
    (result,) = json.loads(ended.stdout)["results"]
    assert result["counts"] == {"images": 1000, "of_images": 1000, "captions": 5000}
    assert result["metrics"]["image_retrieval_recall@5"] == pytest.approx(0.884, abs=0.002)
    assert result["metrics"]["text_retrieval_recall@5"] == pytest.approx(0.962, abs=0.002)


@pytest.mark.parametrize(("method", "accuracy"), [("zero-shot", 0.603), ("tip", 0.620), ("tip-f", 0.655)])
def test_tip_adapter_on_imagenet(method: str, accuracy: float) -> None:
    """CLIP RN50 with 16 images a class, tuned on the validation set as the paper does.

    The folder has `vectors.npz`: train (n, dim), train_labels, test, test_labels, texts (1000, dim), all unit rows of
    CLIP RN50, 16 training images of each class.
    """
    known = np.load(folder_of("TUWEN_IMAGENET") / "vectors.npz")
    support = Support(known["train"], known["train_labels"], known["texts"], 100.0)
    choice = selection.choose_on(support, known["test"], known["test_labels"], [method])[method]
    residual = METHODS[method].fit(support, choice.parameters).of(known["test"])
    logits = support.zero_shot(known["test"]) + choice.parameters["alpha"] * residual
    assert (logits.argmax(axis=1) == known["test_labels"]).mean() == pytest.approx(accuracy, abs=0.003)
