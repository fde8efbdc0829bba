"""A model is measured on datasets as they are found on disk: figures, counts, files, comparisons."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tuwen
from cli.running import run
from tuwen.classify.learning import AUTO
from tuwen.classify.methods import METHODS, Support
from tuwen.data.datasets import open_dataset
from tuwen.data.samples import Columns
from tuwen.demo import demo_gallery
from tuwen.errors import InvalidInput
from tuwen.evaluation.evaluate import evaluate
from tuwen.evaluation.report import figure, figures, write_report
from tuwen.evaluation.tasks import class_vectors, read_names, templates_of
from tuwen.evaluation.vectors import OnProgress, VectorFolder
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest

CAPTIONS = {
    "dog-face": (["a dog", "dog face"], ["狗"]),
    "cat-face": (["a cat", "the face of a cat"], ["猫"]),
    "rabbit": (["a rabbit"], ["兔子", "一只兔子"]),
    "maple-leaf": (["a leaf of a maple"], ["枫叶"]),
    "penguin": (["a penguin", "a bird"], []),
    "tiger": (["a tiger, big cat"], ["老虎"]),
    "owl": (["an owl"], ["猫头鹰"]),
    "rose": (["a rose"], ["玫瑰"]),
}
COLUMNS = Columns(captions={"en": "en", "zh": "zh"})


@pytest.fixture(scope="module")
def encoder() -> tuwen.Encoder:
    return tuwen.load("demo", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions in two languages, as a table beside their folder."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pictures").mkdir()
    lines = []
    for name, (english, chinese) in CAPTIONS.items():
        shutil.copy(demo_gallery() / "animals-and-nature" / f"{name}.webp", folder / "pictures")
        lines.append(json.dumps({"image": f"pictures/{name}.webp", "en": english, "zh": chinese}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "captions.jsonl"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in a folder for each class."""
    folder = tmp_path_factory.mktemp("classes")
    for name in ("flags", "food-and-drink", "animals-and-nature"):
        (folder / name).mkdir()
        for picture in sorted((demo_gallery() / name).iterdir())[:12]:
            shutil.copy(picture, folder / name)
    return folder


def test_retrieval_in_each_language(encoder: tuwen.Encoder, pairs: Path) -> None:
    found = evaluate(encoder, pairs, columns=COLUMNS)
    assert [each.language for each in found.measured] == ["en", "zh"]
    for number in range(2):
        texts = [(place, text) for place, both in enumerate(CAPTIONS.values()) for text in both[number]]
        asked = [place for place, both in enumerate(CAPTIONS.values()) if both[number]]
        folder = pairs.parent / "pictures"
        images = encoder.encode_images([folder / f"{list(CAPTIONS)[place]}.webp" for place in asked])
        scores = encoder.encode_texts([text for _, text in texts]) @ images.T
        best = [asked[place] for place in scores.argmax(axis=1)]
        wanted = np.mean([place == one for (place, _), one in zip(texts, best, strict=True)])
        measured = found.measured[number]
        assert measured.metrics["image_retrieval_recall@1"] == pytest.approx(wanted)
        wanted = np.mean([texts[row][0] == place for row, place in zip(scores.argmax(axis=0), asked, strict=True)])
        assert measured.metrics["text_retrieval_recall@1"] == pytest.approx(wanted)
        assert measured.counts == {"images": len(asked), "of_images": 8, "captions": len(texts)}
        for name, (low, high) in measured.intervals.items():
            assert low <= measured.metrics[name] <= high


def test_several_languages_are_one_table(encoder: tuwen.Encoder, pairs: Path) -> None:
    found = evaluate(encoder, pairs, columns=COLUMNS, against=encoder)
    head, rows = figures(found)
    places = [head.index(name) for name in ("metric", "language", "value", "difference")]
    assert len(rows) == 2 * len(found.metrics)
    for number, row in enumerate(rows):
        name, language, value, difference = (row[place] for place in places)
        measured = found.measured[number % 2]
        assert (name, language) == (list(found.metrics)[number // 2], measured.language)
        assert (value, difference) == (figure(name, measured.metrics[name]), figure(name, 0))
    (alone,) = {len(row) for row in figures(evaluate(encoder, pairs, columns=COLUMNS, language="zh"))[1]}
    assert alone == 4  # metric, value, and the ends of its interval


def test_one_language(encoder: tuwen.Encoder, pairs: Path) -> None:
    both = evaluate(encoder, pairs, columns=COLUMNS)
    found = evaluate(encoder, pairs, columns=COLUMNS, language="zh")
    assert [each.language for each in found.measured] == ["zh"]
    assert found.metrics == both.measured[1].metrics
    with pytest.raises(InvalidInput):
        evaluate(encoder, pairs, columns=COLUMNS, language="fr")


def test_zero_shot_is_what_a_classifier_says(encoder: tuwen.Encoder, classes: Path) -> None:
    found = evaluate(encoder, classes, templates=["a picture of _", "{}"])
    names = ["animals-and-nature", "flags", "food-and-drink"]
    classifier = encoder.classifier(names, ["a picture of _", "{}"])
    right = [
        prediction.labels[0].label == path.parent.name
        for path in sorted(classes.rglob("*.webp"))
        for prediction in classifier.predict([path])
    ]
    assert found.metrics["acc1"] == pytest.approx(np.mean(right))
    assert "acc5" not in found.metrics
    assert found.measured[0].counts == {"images": 36, "of_images": 36, "classes": 3}


def test_names_are_averaged_after_each_is_of_length_one(encoder: tuwen.Encoder) -> None:
    with VectorFolder(encoder) as folder:
        found = class_vectors(folder, [["dog", "hound"], ["cat"]], ["a _", "the _ there"])
    each = encoder.encode_texts(["a dog", "the dog there", "a hound", "the hound there"])
    mean = each.mean(axis=0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert found.shape == (2, encoder.dim)


def test_vectors_are_kept_and_found_again(encoder: tuwen.Encoder, pairs: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    def note(*call: object) -> None:
        calls.append(call)  # type: ignore[arg-type]

    first = evaluate(encoder, pairs, columns=COLUMNS, vectors=tmp_path, on_progress=note)
    assert ("images", 8, 8) in calls
    calls.clear()
    again = evaluate(encoder, pairs, columns=COLUMNS, vectors=tmp_path, on_progress=note)
    assert {what for what, *_ in calls} == {"ranks"}
    assert [each.metrics for each in again.measured] == [each.metrics for each in first.measured]
    picture = pairs.parent / "pictures" / "owl.webp"
    picture.touch()  # a file that has changed is encoded again
    evaluate(encoder, pairs, columns=COLUMNS, vectors=tmp_path, on_progress=note)
    assert ("images", 8, 8) in calls


def test_what_is_stopped_leaves_no_half_file(encoder: tuwen.Encoder, pairs: Path, tmp_path: Path) -> None:
    def stop(at: str) -> OnProgress:
        def show(what: str, _done: int, _total: int) -> None:
            if what == at:
                raise KeyboardInterrupt

        return show

    for what, kept in (("images", set()), ("texts", {".npy", ".jsonl"}), ("ranks", {".npy", ".jsonl"})):
        with pytest.raises(KeyboardInterrupt):
            evaluate(encoder, pairs, columns=COLUMNS, vectors=tmp_path, on_progress=stop(what))
        assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} == kept
    assert evaluate(encoder, pairs, columns=COLUMNS, vectors=tmp_path).measured[0].counts["images"] == 8


def test_what_is_missing_is_listed(encoder: tuwen.Encoder, pairs: Path, tmp_path: Path) -> None:
    shutil.copytree(pairs.parent, tmp_path / "pairs")
    (tmp_path / "pairs" / "pictures" / "owl.webp").unlink()
    (tmp_path / "pairs" / "pictures" / "rose.webp").write_bytes(b"no picture")
    found = evaluate(encoder, tmp_path / "pairs" / "captions.jsonl", columns=COLUMNS)
    assert {Path(item.path).stem for item in found.rejected} == {"owl", "rose"}
    assert found.measured[0].counts["images"] == 6
    assert found.measured[0].counts["of_images"] == 8
    ended = run(
        *("evaluate", "demo", tmp_path / "pairs" / "captions.jsonl", "--captions", "en=en", "--json"),
    )
    assert ended.exit_code == 3
    assert len(json.loads(ended.stdout)["rejected"]) == 2


def test_retrieval_needs_captions(encoder: tuwen.Encoder, classes: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        evaluate(encoder, classes, task="retrieval")
    assert caught.value.where == open_dataset(classes).name


def test_nothing_that_can_be_read(encoder: tuwen.Encoder, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_bytes(pairs.read_bytes())
    with pytest.raises(InvalidInput):
        evaluate(encoder, tmp_path / "captions.jsonl", columns=COLUMNS)


def test_a_model_against_itself_and_another_precision(encoder: tuwen.Encoder, pairs: Path) -> None:
    found = evaluate(encoder, pairs, columns=COLUMNS, against=encoder)
    for comparison in found.comparisons:
        assert not comparison.changed
        assert comparison.overlap == 1
        assert {(change.value, change.low, change.high) for change in comparison.differences.values()} == {(0, 0, 0)}
    document = found.document()["results"][0]
    assert document["against"]["differences"]["image_retrieval_recall@1"]["value"] == 0
    assert document["against"]["precision"] == "fp32"


def test_through_an_index(encoder: tuwen.Encoder, pairs: Path, tmp_path: Path) -> None:
    pictures = pairs.parent / "pictures"
    with VectorIndex.create(tmp_path / "i.tuwen", encoder=encoder, root=pictures) as index:
        for _ in ingest([pictures], encoder, index):
            pass
        found = evaluate(encoder, pairs, columns=COLUMNS, index=index)
    for measured, indexed in zip(found.measured, found.indexed, strict=True):
        assert indexed.kept == 1
        assert indexed.graph == indexed.exact
        if len(measured.rows) == indexed.rows:
            assert indexed.exact["image_retrieval_recall@1"] == measured.metrics["image_retrieval_recall@1"]


def test_the_report_shows_figures_and_misses(
    encoder: tuwen.Encoder, pairs: Path, classes: Path, tmp_path: Path
) -> None:
    found = evaluate(encoder, pairs, columns=COLUMNS, against=encoder)
    written = write_report(tmp_path / "report.md", found)
    assert all(file.stat().st_size for file in written)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert {file.name for file in written[1:]} == {
        name for name in text.replace(")", "(").split("(") if "report" in name
    }
    zero_shot = evaluate(encoder, classes)
    assert len(write_report(tmp_path / "other.md", zero_shot)) == 3
    chinese = replace(zero_shot, measured=(replace(zero_shot.measured[0], classes=("动物", "旗", "食物")),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of matplotlib, whose font lacks these characters
        write_report(tmp_path / "chinese.md", chinese)
    one, other, often = zero_shot.measured[0].result.confusions(1)[0]
    names = zero_shot.measured[0].classes
    assert f"| {names[one]} | {names[other]} | {often} |" in (tmp_path / "other.md").read_text(encoding="utf-8")


def test_a_report_that_is_stopped_leaves_nothing(
    encoder: tuwen.Encoder, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate(encoder, pairs, columns=COLUMNS, language="en")
    assert found.measured[0].misses(1)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuwen.evaluation.report.grid", stop)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path / "report.md", found)
    assert not list(tmp_path.iterdir())


def test_a_miss_names_what_was_found_instead(encoder: tuwen.Encoder, pairs: Path) -> None:
    measured = evaluate(encoder, pairs, columns=COLUMNS).measured[0]
    ranks = [miss.rank for miss in measured.misses(100)]
    assert ranks == sorted(ranks, reverse=True)
    assert len(ranks) == (measured.ranks > 1).sum()
    for miss in measured.misses(100):
        assert miss.wanted != miss.found
        example = measured.encoded.dataset[miss.images[0]]
        assert example.key == miss.wanted  # type: ignore[union-attr]


def test_results_have_the_form_of_clip_benchmark(pairs: Path) -> None:
    ended = run("evaluate", "demo", pairs, "--captions", "en=en", "--json", "--precision", "fp32")
    assert ended.exit_code == 0, ended.stderr
    (result,) = json.loads(ended.stdout)["results"]
    assert {"dataset", "model", "pretrained", "task", "metrics", "language"} <= result.keys()
    assert (result["task"], result["language"]) == ("zeroshot_retrieval", "en")
    assert result["fingerprint"] == tuwen.load("demo").fingerprint
    assert result["precision"] == "fp32"
    assert result["intervals"].keys() == result["metrics"].keys()


def test_tables_for_people(pairs: Path, classes: Path) -> None:
    ended = run("evaluate", "demo", pairs, "--captions", "en=en", "--against", "demo@fp32")
    assert ended.exit_code == 0, ended.stderr
    assert "text_retrieval_recall@5" in ended.stdout
    assert run("evaluate", "demo", classes).exit_code == 0
    assert run("evaluate", "demo", pairs, "--captions", "en", "--captions", "zh").exit_code == 2
    assert run("evaluate", "demo", pairs, "--captions", "en=en", "--task", "zero-shot").exit_code == 2


CLASSES = ("n01", "n02", "n03")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("dog, hound\ncat\nred fox\n", [["dog", "hound"], ["cat"], ["red fox"]]),
        ("n03\tred fox\nn01\tdog, hound\n\nn02\tcat\n", [["dog", "hound"], ["cat"], ["red fox"]]),
        ("n01 dog, hound\nn02 cat\nn03 red fox\nn04 bear\n", [["dog", "hound"], ["cat"], ["red fox"]]),
    ],
)
def test_names_of_classes(text: str, wanted: list[list[str]], tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text(text, encoding="utf-8")
    assert read_names(file, CLASSES) == wanted


def test_names_and_templates_that_do_not_fit(encoder: tuwen.Encoder, classes: Path, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("dog\ncat\n", encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        read_names(file, CLASSES)
    assert (caught.value.value, caught.value.where) == (2, file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput) as caught:
        read_names(file, CLASSES)
    assert caught.value.where == file
    dataset = evaluate(encoder, classes).measured[0].encoded.dataset
    file.write_text("a photo of a {c}.\nart of _\n", encoding="utf-8")
    assert templates_of(dataset, file) == ("a photo of a _.", "art of _")
    assert templates_of(replace(dataset, templates=("own _",)), None) == ("own _",)
    for wrong in ("", "no place\n", "_ and _\n"):
        file.write_text(wrong, encoding="utf-8")
        with pytest.raises(InvalidInput):
            templates_of(dataset, file)


@pytest.mark.parametrize("task", ["few-shot", "linear-probe"])
def test_tasks_that_learn(encoder: tuwen.Encoder, classes: Path, task: str) -> None:
    pytest.importorskip("scipy")
    found = evaluate(encoder, classes, task=task, shots=4)
    (measured,) = found.measured
    assert measured.counts == {"images": 24, "of_images": 24, "classes": 3, "support": 12}
    zero_shot = evaluate(encoder, classes).metrics["acc1"]
    prefix = "lp_" if task == "linear-probe" else ""
    assert found.metrics[f"{prefix}acc1"] >= zero_shot
    document = found.document()["results"][0]
    assert document["task"] == task.replace("-", "_")
    assert document["method"] in METHODS
    assert evaluate(encoder, classes, task=task, shots=4, seed=1).measured[0].rows.tolist() != measured.rows.tolist()
    half = evaluate(encoder, classes, task="linear-probe").measured[0]
    assert half.counts["support"] == half.counts["images"] == 18
    right = measured.result.ranks == 1  # type: ignore[attr-defined]
    np.testing.assert_array_equal(measured.best[:, 0][right], measured.result.labels[right])  # type: ignore[attr-defined]


def table(file: Path, pictures: list[Path]) -> Path:
    """A table of pictures and their folders' names, in this order."""
    file.write_text("\n".join(["image,label", *(f"{path},{path.parent.name}" for path in pictures)]) + "\n")
    return file


def test_classes_to_learn_from_are_known_by_their_names(encoder: tuwen.Encoder, classes: Path, tmp_path: Path) -> None:
    """A table's classes are numbered in the order of its lines, which is another for the images to learn from."""
    pytest.importorskip("scipy")
    pictures = sorted(classes.rglob("*.webp"))
    train = table(tmp_path / "train.csv", pictures[::-2])
    test = table(tmp_path / "test.csv", pictures[::2])
    assert open_dataset(train).classes == open_dataset(test).classes[::-1]
    for task in ("few-shot", "linear-probe"):
        found = evaluate(encoder, test, task=task, train=train, method="gda" if task == "few-shot" else AUTO)
        assert found.measured[0].counts == {"images": 18, "of_images": 18, "classes": 3, "support": 18}
        assert next(value for name, value in found.metrics.items() if name.endswith("acc1")) > 0.6  # by chance: a third


def test_what_a_method_adds_counts_as_often_as_was_chosen(encoder: tuwen.Encoder, classes: Path) -> None:
    found = evaluate(encoder, classes, task="few-shot", shots=6, method="gda").measured[0]
    drawn = np.setdiff1d(np.arange(36), found.rows)
    labels = np.array([several[0] for several in found.encoded.labels])
    support = Support(found.encoded.vectors[drawn], labels[drawn], found.targets, encoder.scoring.scale)
    residual = METHODS["gda"].fit(support, {}).of(found.queries)
    learnt = found.learnt
    assert learnt is not None
    assert learnt["parameters"]["alpha"] != 1
    wanted = encoder.scoring.scale * found.queries @ found.targets.T + learnt["parameters"]["alpha"] * residual
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-3, atol=1e-3)


def test_only_the_images_that_are_learnt_from_are_encoded(
    encoder: tuwen.Encoder, classes: Path, tmp_path: Path
) -> None:
    pictures = sorted(classes.rglob("*.webp"))
    (tmp_path / "torn").mkdir()
    for name in ("flags", "food-and-drink"):
        (tmp_path / "torn" / name).mkdir()
        (tmp_path / "torn" / name / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    test = table(tmp_path / "test.csv", pictures[::2])
    shown: list[tuple[str, int]] = []
    found = evaluate(
        encoder,
        test,
        task="few-shot",
        method="zero-shot",
        train=table(tmp_path / "train.csv", pictures[1::2]),
        shots=2,
        on_progress=lambda what, _done, total: shown.append((what, total)),
    )
    assert {total for what, total in shown if what == "images"} == {18, 6}
    assert found.measured[0].counts["support"] == 6
    torn = table(tmp_path / "torn.csv", [*sorted((tmp_path / "torn").rglob("*.png")), *pictures[1::2]])
    found = evaluate(encoder, test, task="few-shot", method="zero-shot", train=torn)
    assert found.measured[0].counts == {"images": 18, "of_images": 18, "classes": 3, "support": 18}
    assert len(found.rejected) == 2  # they are listed, and the command ends with 3
    assert len(found.document()["rejected"]) == 2


def test_images_to_learn_from_are_never_those_that_are_measured(
    encoder: tuwen.Encoder, classes: Path, tmp_path: Path
) -> None:
    for split, first in (("train", 0), ("test", 6)):
        for folder in classes.iterdir():
            (tmp_path / "both" / split / folder.name).mkdir(parents=True)
            for picture in sorted(folder.iterdir())[first : first + 6]:
                shutil.copy(picture, tmp_path / "both" / split / folder.name)
    both = tmp_path / "both"
    found = evaluate(encoder, both, task="few-shot", train=both, shots=4, method="gda")
    assert found.measured[0].counts == {"images": 18, "of_images": 18, "classes": 3, "support": 12}
    assert {key.split("/")[0] for key in found.measured[0].names} == {"test"}
    ended = run("evaluate", "demo", both, "--task", "linear-probe", "--train", both, "--json")
    assert ended.exit_code == 0, ended.stderr
    assert json.loads(ended.stdout)["results"][0]["counts"]["support"] == 18
    with pytest.raises(InvalidInput) as caught:
        evaluate(encoder, classes, task="few-shot", train=open_dataset(classes))
    assert caught.value.where == "train"
    shutil.rmtree(both / "train" / "flags")
    with pytest.raises(InvalidInput) as caught:
        evaluate(encoder, both, task="few-shot", train=both)
    assert caught.value.value == ["flags"]
    with pytest.raises(InvalidInput) as caught:
        evaluate(encoder, classes, shots=3)
    assert caught.value.where == "task"
