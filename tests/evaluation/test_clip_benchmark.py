"""Every figure equals that of CLIP_benchmark on the same vectors, and on the same weights and pictures."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tuwen
from tuwen.data.samples import Columns
from tuwen.demo import demo_gallery, photo_gallery
from tuwen.evaluation.evaluate import evaluate
from tuwen.evaluation.metrics import classification, multi_label, retrieval

pytestmark = pytest.mark.parity


class Known:
    """A model whose inputs are vectors already."""

    def encode_image(self, images):
        return images

    def encode_text(self, texts):
        return texts


class Batches(list):
    """Batches, and the dataset that they come from."""

    dataset: object


def unit(rows) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Theirs:
    """CLIP_benchmark."""

    def __init__(self) -> None:
        self.torch = pytest.importorskip("torch")
        self._retrieval = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval", exc_type=ImportError)
        self._classes = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification", exc_type=ImportError)
        # numpy 2.4 takes no array of one number for a float
        self._classes.float = lambda value: float(value) if isinstance(value, str) else np.asarray(value).item()

    def retrieval(self, images, texts, owners, model=None, tokenizer=None):
        """Its figures, images and their captions in batches of 16; the inputs are vectors where there is no model."""
        if model is None:
            images, texts = self.torch.from_numpy(images), self.torch.from_numpy(texts)
        own = [[texts[row] for row in np.flatnonzero(owners == image)] for image in range(len(images))]
        batches = [(images[first : first + 16], own[first : first + 16]) for first in range(0, len(images), 16)]
        tokenizer = tokenizer or self.torch.stack
        return self._retrieval.evaluate(
            model or Known(), batches, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10]
        )

    def classes(self, images, labels, names, texts, model=None):
        """Its figures; `texts`: name -> its prompts, or their vectors where there is no model."""
        if model is None:
            images = self.torch.from_numpy(images)
            texts = {name: self.torch.from_numpy(rows) for name, rows in texts.items()}
        labels = self.torch.from_numpy(np.asarray(labels, dtype=np.int64))
        batches = Batches(
            (images[first : first + 16], labels[first : first + 16]) for first in range(0, len(images), 16)
        )
        batches.dataset = type("Dataset", (), {"classes": names})
        templates = {name: name for name in names}
        return self._classes.evaluate(
            model or Known(), batches, lambda name: texts[name], names, templates, "cpu", amp=False
        )


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    """Imported by the process that runs these tests only: its packages take seconds."""
    return Theirs()


def same(ours: dict[str, float], theirs: dict[str, float]) -> None:
    known = {name: value for name, value in theirs.items() if not np.isnan(value)}
    assert known.keys() <= ours.keys()
    assert {name: ours[name] for name in known} == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(("images", "captions"), [(60, (1, 1)), (40, (5, 5)), (50, (1, 7))])
def test_retrieval(images: int, captions: tuple[int, int], theirs: Theirs) -> None:
    chance = np.random.default_rng(images)
    pictures = unit(chance.standard_normal((images, 32)))
    owners = np.sort(np.repeat(np.arange(images), chance.integers(captions[0], captions[1] + 1, size=images)))
    texts = unit(pictures[owners] + 0.4 * chance.standard_normal((len(owners), 32)))
    found = retrieval(pictures, texts, owners).metrics()
    same(found, theirs.retrieval(pictures, texts, owners))


def test_ties_are_never_to_the_models_advantage(theirs: Theirs) -> None:
    chance = np.random.default_rng(0)
    pictures = np.repeat(unit(chance.standard_normal((10, 32))), 4, axis=0)
    texts = unit(pictures + 0.1 * chance.standard_normal((40, 32)))
    ours = retrieval(pictures, texts, np.arange(40)).metrics()
    other = theirs.retrieval(pictures, texts, np.arange(40))
    assert ours["image_retrieval_recall@1"] == 0
    assert other["image_retrieval_recall@1"] > 0  # whichever of four equal pictures sorting puts first
    assert all(ours[name] <= value + 1e-6 for name, value in other.items())


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(("classes", "absent"), [(12, 0), (12, 3), (3, 0)])
def test_classification(classes: int, absent: int, theirs: Theirs) -> None:
    chance = np.random.default_rng(classes)
    names = [f"class {number}" for number in range(classes)]
    prompts = {name: unit(chance.standard_normal((4, 32))) for name in names}
    targets = unit(np.stack([prompts[name].mean(axis=0) for name in names]))
    labels = chance.integers(classes - absent, size=150)
    vectors = unit(targets[labels] + 0.3 * chance.standard_normal((150, 32)))
    same(classification(vectors, targets, labels).metrics(), theirs.classes(vectors, labels, names, prompts))


def test_several_labels(theirs: Theirs) -> None:
    chance = np.random.default_rng(1)
    names = [f"class {number}" for number in range(6)]
    targets = unit(chance.standard_normal((6, 32)))
    wanted = chance.random((90, 6)) < 0.3
    wanted[:, 5] = False
    vectors = unit(wanted @ targets + 0.8 * chance.standard_normal((90, 32)))
    prompts = {name: targets[place : place + 1] for place, name in enumerate(names)}
    found = multi_label(vectors.astype(np.float64) @ targets.T, wanted).metrics()
    same(found, theirs.classes(vectors, wanted, names, prompts))


@pytest.mark.long
@pytest.mark.parametrize(("model", "gallery"), [("demo", demo_gallery), ("photo", photo_gallery)])
def test_a_packaged_model_classifies_files(model: str, gallery: Callable[[], Path], theirs: Theirs) -> None:
    encoder = tuwen.load(model, precision="fp32", threads=1)
    found = evaluate(encoder, gallery(), task="zero-shot", templates=["_", "a picture of _"])
    names = list(found.measured[0].classes)
    files = [path for name in names for path in sorted((gallery() / name).iterdir())]
    texts = {
        name: encoder.encode_texts([called, f"a picture of {called}"])
        for name, called in ((name, name.replace("_", " ")) for name in names)
    }
    labels = [names.index(file.parent.name) for file in files]
    same(found.metrics, theirs.classes(encoder.encode_images(files), labels, names, texts))


@pytest.mark.long
@pytest.mark.parametrize("model", ["demo", "photo"])
def test_a_packaged_model_finds_photos(model: str, shared_data: Path, theirs: Theirs) -> None:
    encoder = tuwen.load(model, precision="fp32", threads=1)
    found = evaluate(encoder, shared_data / "flickr8k_200" / "captions.jsonl", columns=Columns(captions={"en": "en"}))
    measured = found.measured[0]
    files = [shared_data / "flickr8k_200" / measured.encoded.keys[row] for row in measured.rows]
    vectors, texts = encoder.encode_images(files), encoder.encode_texts(list(measured.names))
    owners = measured.result.owners  # type: ignore[attr-defined]
    same(found.metrics, theirs.retrieval(vectors, texts, owners))


@pytest.fixture(scope="module")
def vit(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory):
    """ViT-B/32 with random weights: open_clip's model, preprocessing and tokenizer, and an encoder of these weights."""
    from tuwen.models import openclip
    from tuwen.models.torchvision import import_open_clip
    from tuwen.training.evaluate import torch_encoder

    torch, open_clip, folder = theirs.torch, import_open_clip(), tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    reference, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32")
    reference.eval()
    with torch.no_grad():  # as they are, random weights give nearly the same vector to everything: ranks are rounding
        reference.visual.conv1.weight *= 30
        reference.token_embedding.weight *= 30
    torch.save(reference.state_dict(), folder / "weights.pt")
    encoder = torch_encoder(openclip.load("ViT-B-32", folder / "weights.pt"), folder, "cpu", "fp32", weights=b"random")
    encoder.reading = type(encoder.reading)(near=None, max_pixels=encoder.reading.max_pixels, srgb=False)

    def images(files: Sequence[Path]):
        return torch.stack([preprocess(Image.open(file).convert("RGB")) for file in files])

    return reference, images, open_clip.get_tokenizer("ViT-B-32"), encoder


@pytest.mark.long
def test_the_same_weights_find_the_same_photos(vit, theirs: Theirs, shared_data: Path, tmp_path: Path) -> None:
    reference, images, tokenizer, encoder = vit
    folder, some = shared_data / "flickr8k_200", tmp_path / "captions.jsonl"
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").split("\n")[:30]
    some.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = evaluate(encoder, some, images=folder, columns=Columns(captions={"en": "en"}))
    measured = found.measured[0]
    owners = measured.result.owners  # type: ignore[attr-defined]
    pictures = images([folder / measured.encoded.keys[row] for row in measured.rows])
    same(found.metrics, theirs.retrieval(pictures, list(measured.names), owners, reference, tokenizer))


@pytest.mark.long
def test_the_same_weights_classify_the_same_photos(vit, theirs: Theirs, tmp_path: Path) -> None:
    reference, images, tokenizer, encoder = vit
    for folder in photo_gallery().iterdir():
        if folder.is_dir():
            (tmp_path / folder.name).mkdir()
            for file in sorted(folder.iterdir())[:3]:
                shutil.copy(file, tmp_path / folder.name)
    found = evaluate(encoder, tmp_path, task="zero-shot", templates=["a photo of _."])
    names = list(found.measured[0].classes)
    files = [path for name in names for path in sorted((tmp_path / name).iterdir())]
    texts = {name: tokenizer([f"a photo of {name}."]) for name in names}
    labels = [names.index(file.parent.name) for file in files]
    same(found.metrics, theirs.classes(images(files), labels, names, texts, reference))
