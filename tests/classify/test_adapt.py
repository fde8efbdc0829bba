"""A classifier is learnt from a few pictures, written to a folder, read again and used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tuwen
from cli.running import run
from tuwen.classify.adapter import FACTS, TENSORS, Adapter
from tuwen.classify.classifier import adapted
from tuwen.classify.learning import Labelled, encode_labelled
from tuwen.data.datasets import open_dataset
from tuwen.demo import demo_gallery
from tuwen.errors import InvalidInput, WrongModel
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest

pytest.importorskip("scipy")
CLASSES = ("animals-and-nature", "flags", "food-and-drink")


@pytest.fixture(scope="module")
def encoder() -> tuwen.Encoder:
    return tuwen.load("demo", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of each class."""
    folder = tmp_path_factory.mktemp("few")
    for name in CLASSES:
        (folder / name).mkdir()
        for picture in sorted((demo_gallery() / name).iterdir())[::9][:6]:
            shutil.copy(picture, folder / name)
    return folder


@pytest.fixture(scope="module")
def adapter(encoder: tuwen.Encoder, few: Path) -> Adapter:
    return tuwen.adapt(encoder, few)


@pytest.fixture(scope="module")
def unseen() -> list[Path]:
    return [picture for name in CLASSES for picture in sorted((demo_gallery() / name).iterdir())[4::9][:12]]


def test_pictures_that_were_not_seen(encoder: tuwen.Encoder, adapter: Adapter, unseen: list[Path]) -> None:
    assert adapter.classes == CLASSES
    labels = np.array([CLASSES.index(path.parent.name) for path in unseen])
    vectors = encoder.encode_images(unseen)
    learnt = (adapter.probabilities(vectors).argmax(axis=1) == labels).mean()
    zero_shot = (vectors @ adapter.texts.T).argmax(axis=1) == labels
    assert learnt > zero_shot.mean()
    assert learnt > 0.6  # by chance: a third
    np.testing.assert_allclose(adapter.probabilities(vectors).sum(axis=1), 1)
    figures = adapter.measured["accuracy"]
    assert figures[adapter.method] == max(figures.values())
    assert adapter.measured["false_rejects"] <= 0.05


def test_it_is_the_same_when_read_again(
    encoder: tuwen.Encoder, adapter: Adapter, unseen: list[Path], tmp_path: Path
) -> None:
    adapter.save(tmp_path / "adapter")
    again = Adapter.load(tmp_path / "adapter")
    vectors = encoder.encode_images(unseen)
    np.testing.assert_allclose(again.probabilities(vectors), adapter.probabilities(vectors), atol=1e-6)
    assert (again.method, again.none_below, again.classes) == (adapter.method, adapter.none_below, adapter.classes)
    adapter.save(tmp_path / "adapter")  # replaces itself
    classifier = tuwen.Classifier.load(tmp_path / "adapter", encoder)
    found = classifier.predict(unseen)
    best = [CLASSES.index(prediction.labels[0].label) for prediction in found]
    assert best == adapter.probabilities(vectors).argmax(axis=1).tolist()
    assert [label.probability for label in found[0].labels] == pytest.approx(
        sorted(adapter.probabilities(vectors)[0], reverse=True), abs=1e-5
    )
    assert all(prediction.none for prediction in classifier.predict(unseen[:3], none_below=1.0))


@pytest.mark.parametrize("method", ["zero-shot", "tip", "tip-f", "gda", "proker", "linear"])
def test_every_method_is_written_and_read(encoder: tuwen.Encoder, few: Path, tmp_path: Path, method: str) -> None:
    learnt = tuwen.adapt(encoder, few, method=method)
    assert learnt.method == method
    learnt.save(tmp_path / "adapter")
    vectors = encoder.encode_images(sorted(few.rglob("*.webp")))
    np.testing.assert_allclose(
        Adapter.load(tmp_path / "adapter").logits(vectors), learnt.logits(vectors), rtol=1e-5, atol=1e-5
    )


def test_another_model_is_refused(encoder: tuwen.Encoder, adapter: Adapter, few: Path, tmp_path: Path) -> None:
    folder, picture = tmp_path / "adapter", next(few.rglob("*.webp"))
    replace(adapter, fingerprint="0" * 16).save(folder)
    with pytest.raises(WrongModel) as caught:
        tuwen.Classifier.load(folder, encoder)
    assert (caught.value.value, caught.value.where) == (encoder.fingerprint, "0" * 16)
    assert run("classify", picture, "--model", "demo", "--adapter", folder).exit_code == 1
    adapter.save(folder)
    assert run("classify", picture, "--model", "demo", "--adapter", folder).exit_code == 0


def test_what_is_added_counts_as_often_as_was_chosen(encoder: tuwen.Encoder, few: Path) -> None:
    learnt = tuwen.adapt(encoder, few, method="tip")
    doubled = replace(learnt, parameters={**learnt.parameters, "alpha": 2 * learnt.parameters["alpha"]})
    vectors = encoder.encode_images(sorted(few.rglob("*.webp")))
    base = learnt.scale * vectors @ learnt.texts.T
    for each in (learnt, doubled):
        wanted = base + each.parameters["alpha"] * each.residual.of(vectors)
        np.testing.assert_allclose(each.logits(vectors), wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(doubled.logits(vectors) - learnt.logits(vectors)).max() > 0.1


def test_none_of_these_rejects_one_in_twenty_wrongly(encoder: tuwen.Encoder, few: Path) -> None:
    pictures = [picture for name in CLASSES for picture in sorted((demo_gallery() / name).iterdir())[:40]]
    other = Labelled(CLASSES, encoder.encode_images(pictures), np.repeat(np.arange(3), 40))
    learnt = tuwen.adapt(encoder, few, method="gda", tune_on=other)
    rejected = (learnt.probabilities(other.vectors).max(axis=1) < learnt.none_below).mean()
    assert rejected == learnt.measured["false_rejects"] == 6 / 120
    assert learnt.measured["on"] == "the images that it was tuned on"
    said = [prediction.none for prediction in adapted([str(path) for path in pictures], other.vectors, learnt)]
    assert sum(said) == 6


def test_a_folder_that_is_no_adapter(adapter: Adapter, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        Adapter.load(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("x")
    with pytest.raises(InvalidInput):
        adapter.save(tmp_path / "full")
    assert (tmp_path / "full" / "precious.txt").exists()
    adapter.save(tmp_path / "changed")
    tensors = (tmp_path / "changed" / TENSORS).read_bytes()
    for changed in (b"other", tensors[:-1] + bytes([tensors[-1] ^ 1])):  # the latter is a file of tensors, too
        (tmp_path / "changed" / TENSORS).write_bytes(changed)
        with pytest.raises(InvalidInput) as caught:
            Adapter.load(tmp_path / "changed")
        assert caught.value.where == tmp_path / "changed"
    (tmp_path / "changed" / FACTS).write_text("[]")
    with pytest.raises(InvalidInput):
        Adapter.load(tmp_path / "changed")


def test_one_picture_of_each_class_tunes_nothing(encoder: tuwen.Encoder, few: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "one" / name).mkdir(parents=True)
        shutil.copy(sorted((few / name).iterdir())[0], tmp_path / "one" / name)
    learnt = tuwen.adapt(encoder, tmp_path / "one")
    assert learnt.none_below is None
    assert learnt.measured["images"] == 0
    assert learnt.temperature == 1


def test_bad_support(encoder: tuwen.Encoder, few: Path, tmp_path: Path) -> None:
    shutil.copytree(few, tmp_path / "bad")
    flag = sorted((tmp_path / "bad" / "flags").iterdir())[0]
    shutil.copy(flag, tmp_path / "bad" / "food-and-drink" / "copy.webp")
    (tmp_path / "bad" / "flags" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    ended = run("adapt", "demo", tmp_path / "bad", "-o", tmp_path / "adapter", "--json", "--method", "gda")
    assert ended.exit_code == 3, ended.stderr
    document = json.loads(ended.stdout)
    assert len(document["rejected"]) == 1
    (warning,) = document["warnings"]
    assert all(name in warning for name in (flag.stem, "copy", "flags", "food-and-drink"))
    shutil.copytree(few, tmp_path / "twice")
    shutil.copy(tmp_path / "twice" / "flags" / flag.name, tmp_path / "twice" / "flags" / "copy.webp")
    assert encode_labelled(encoder, open_dataset(tmp_path / "twice")).warnings == ()
    for picture in (tmp_path / "bad" / "flags").iterdir():
        picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InvalidInput) as caught:
        tuwen.adapt(encoder, tmp_path / "bad")
    assert caught.value.value == ["flags"]
    with pytest.raises(InvalidInput):
        tuwen.adapt(encoder, few, method="magic")


def test_from_the_command_line(few: Path, unseen: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    ended = run("adapt", "demo", few, "-o", folder)
    assert ended.exit_code == 0, ended.stderr
    ended = run("classify", unseen[0], "--model", "demo", "--adapter", folder, "--json")
    assert ended.exit_code == 0, ended.stderr
    (image,) = json.loads(ended.stdout)["images"]
    assert image.keys() == {"path", "labels", "none"}
    assert {label["label"] for label in image["labels"]} == set(CLASSES)
    assert run("classify", unseen[0], "--adapter", folder, "--labels", "a,b").exit_code == 2
    assert run("adapt", "demo", "-o", folder).exit_code == 2


def test_rows_of_an_index_are_a_support(encoder: tuwen.Encoder, adapter: Adapter, few: Path, tmp_path: Path) -> None:
    with VectorIndex.create(tmp_path / "i.tuwen", encoder=encoder, root=few) as index:
        for _ in ingest([few], encoder, index):
            pass
    folder = tmp_path / "adapter"
    ended = run(
        *("adapt", "demo", "-o", folder, "--index", tmp_path / "i.tuwen", "--label-field", "folder"),
        *("--precision", "fp32", "--json"),
    )
    assert ended.exit_code == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["classes"] == list(CLASSES)
    assert found["measured"]["support"] == 18
