"""Published figures, where a hub and the datasets are there.

TUWEN_FLICKR30K    a folder with `dataset_flickr30k.json` and `flickr30k-images/`
TUWEN_IMAGENET     a folder with `train/` and `val/`, a folder in each for each class (n01440764 …), and
                   `classnames.txt`: a line for each class in the order of its number, or n01440764<TAB>tench
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import tuwen
from cli.running import run
from tuwen.classify import selection
from tuwen.classify.methods import METHODS, Support
from tuwen.data.datasets import open_dataset
from tuwen.evaluation.tasks import class_vectors, read_names
from tuwen.evaluation.vectors import VectorFolder

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


TEMPLATES = (
    *("itap of a _.", "a bad photo of the _.", "a origami _.", "a photo of the large _.", "a _ in a video game."),
    *("art of the _.", "a photo of the small _."),
)
"""the prompts that Tip-Adapter uses on ImageNet"""


class ImageNet(NamedTuple):
    support: Support
    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]


@pytest.fixture(scope="module")
def imagenet() -> ImageNet:
    """CLIP RN50's vectors of 16 training images of each class and of the validation images, which are kept."""
    root, model = folder_of("TUWEN_IMAGENET"), "RN50/openai"
    assert run("pull", model).exit_code == 0
    encoder = tuwen.load(model, precision="fp32")
    val = open_dataset(root / "val")
    chance = np.random.default_rng(1)
    few = [chance.permutation(sorted((root / "train" / name).iterdir()))[:16] for name in val.classes]
    with VectorFolder(encoder, root / "tuwen-vectors") as folder:
        names = read_names(root / "classnames.txt", val.classes)
        known, texts = folder.images(val), class_vectors(folder, names, TEMPLATES)
    labels = np.array([label for (label,) in known.labels])
    support = Support(
        encoder.encode_images([file for files in few for file in files]),
        np.repeat(np.arange(len(few)), [len(files) for files in few]),
        texts,
        encoder.scoring.scale,
    )
    return ImageNet(support, np.asarray(known.vectors), labels)


@pytest.mark.parametrize(("method", "accuracy"), [("zero-shot", 0.603), ("tip", 0.620), ("tip-f", 0.655)])
def test_tip_adapter_on_imagenet(imagenet: ImageNet, method: str, accuracy: float) -> None:
    """CLIP RN50 with 16 images a class.

    The paper's code (`main_imagenet.py`) searches alpha and beta on the images that it reports on. Here they are chosen
    on one half of these and measured on the other, both ways round: no image is measured by what was chosen on it.
    """
    support, vectors, labels = imagenet
    half = np.random.default_rng(0).permutation(len(labels)) % 2
    right = np.zeros(len(labels), dtype=bool)
    for chosen_on, measured in ((half == 0, half == 1), (half == 1, half == 0)):
        choice = selection.choose_on(support, vectors[chosen_on], labels[chosen_on], [method])[method]
        residual = METHODS[method].fit(support, choice.parameters).of(vectors[measured])
        logits = support.zero_shot(vectors[measured]) + choice.parameters["alpha"] * residual
        right[measured] = logits.argmax(axis=1) == labels[measured]
    assert right.mean() == pytest.approx(accuracy, abs=0.003)
