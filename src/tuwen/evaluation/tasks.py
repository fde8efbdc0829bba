"""The tasks that a model is measured on: an encoded dataset -> ranks, metrics and their intervals.

retrieval       captions find their image among all images, and images their captions
zero-shot       images are classified by the names of the classes, in prompt templates
few-shot        images are classified by what `tuwen.adapt` learns from a few labelled ones
linear-probe    images are classified by a logistic regression on labelled ones, without the names
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen.classify import selection
from tuwen.classify.labels import PLAIN, fill
from tuwen.classify.learning import AUTO, checked_method
from tuwen.classify.methods import METHODS, Floats, Support
from tuwen.data.datasets import Dataset, SampleList
from tuwen.errors import InvalidInput
from tuwen.evaluation import metrics
from tuwen.evaluation.metrics import Classification, MultiLabel, Result, Retrieval
from tuwen.evaluation.vectors import Encoded, VectorFolder, identity
from tuwen.types import Rejected, Vectors

BEST = 10
"""results of each query that are looked at: in comparisons, and for what was found in place of the right one"""

TASKS = {
    "retrieval": "zeroshot_retrieval",
    "zero-shot": "zeroshot_classification",
    "few-shot": "few_shot",
    "linear-probe": "linear_probe",
}
"""tasks, and what CLIP_benchmark calls them"""
LEARNING = ("few-shot", "linear-probe")
"""the tasks that learn from labelled images"""
SHOTS = 16
"""the most images of each class that are learnt from, where no number is given, in few-shot classification"""


_Label = TypeVar("_Label")


class Miss(NamedTuple):
    """A query that was answered wrongly.

    Attributes:
        query: the caption, or the key of the image.
        wanted: the image that the caption belongs to, or the class of the image.
        found: what was found first.
        rank: of the right answer, from 1.
        images: places in the dataset: the image that the query is about, and the one that was found, if it is one.
    """

    query: str
    wanted: str
    found: str
    rank: int
    images: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A task's result on one dataset, in one language.

    Attributes:
        task: `retrieval` or `zero-shot`.
        language: of the captions; "" where unknown.
        encoded: the dataset.
        rows: (n,) the images that it was measured on, as rows of `encoded`.
        queries: (m, dim) what is asked with: captions, or images.
        targets: (k, dim) what is found: images, or classes.
        names: of each query.
        result: ranks or predictions.
        classes: names of the classes; empty in retrieval.
        scores: (m, k) of the classes, where they are not the products of queries and targets.
        learnt: what was learnt, where a task learns: `method`, `parameters`, and `support`, how many images from.
        drawn: how many images of the dataset were learnt from, which are not measured.
        unlearnt: images of another dataset that should have been learnt from, and cannot be read.
    """

    task: str
    language: str
    encoded: Encoded
    rows: NDArray[np.int64]
    queries: Vectors = field(repr=False)
    targets: Vectors = field(repr=False)
    names: Sequence[str] = field(repr=False)
    result: Result
    classes: tuple[str, ...] = ()
    scores: Floats | None = field(default=None, repr=False)
    learnt: Mapping[str, Any] | None = None
    drawn: int = 0
    unlearnt: tuple[Rejected, ...] = ()

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The figures, named as CLIP_benchmark names them."""
        return self.result.metrics()

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Their 95 % bootstrap intervals over images."""
        return metrics.interval(self.result)

    @property
    def counts(self) -> dict[str, int]:
        """How many images (`of_images`: how many the dataset names), and how many captions or classes."""
        other = {"classes": len(self.classes)} if self.classes else {"captions": len(self.queries)}
        if self.learnt is not None:
            other["support"] = self.learnt["support"]
        return {"images": len(self.rows), "of_images": self.encoded.total - self.drawn} | other

    @cached_property
    def best(self) -> NDArray[np.int64]:
        """(m, 10) the best targets of each query."""
        if self.scores is not None:
            return np.argsort(-self.scores, axis=1, kind="stable")[:, :BEST]
        return metrics.top_k(self.queries, self.targets, BEST)

    @property
    def ranks(self) -> NDArray[np.int64]:
        """(m,) the rank of the right answer to each query; of several right ones, the best."""
        if isinstance(self.result, Retrieval):
            return self.result.image_ranks
        if isinstance(self.result, Classification):
            return self.result.ranks
        return np.ones(len(self.queries), dtype=np.int64)

    def misses(self, count: int) -> list[Miss]:
        """The `count` queries whose right answer stands furthest behind."""
        worst = np.argsort(-self.ranks, kind="stable")[:count]
        return [self._miss(int(query)) for query in worst if self.ranks[query] > 1]

    def _miss(self, query: int) -> Miss:
        rank = int(self.ranks[query])
        if isinstance(self.result, Retrieval):
            owner, found = int(self.result.owners[query]), int(self._first_wrong(query))
            keys = [self.encoded.keys[self.rows[image]] for image in (owner, found)]
            images = tuple(int(self.encoded.places[self.rows[image]]) for image in (owner, found))
            return Miss(self.names[query], keys[0], keys[1], rank, images)
        assert isinstance(self.result, Classification), self.task
        wanted, found = self.classes[self.result.labels[query]], self.classes[self.result.predicted[query]]
        return Miss(self.names[query], wanted, found, rank, (int(self.encoded.places[self.rows[query]]),))

    def _first_wrong(self, query: int) -> int:
        assert isinstance(self.result, Retrieval), self.task
        best = metrics.top_k(self.queries[query : query + 1], self.targets, 2)[0]
        return int(best[0] if best[0] != self.result.owners[query] else best[-1])


def task_of(dataset: Dataset, asked: str | None) -> str:
    """The task that fits a dataset: zero-shot classification where it has classes, else retrieval.

    Raises:
        InvalidInput: there is no such task, or the dataset has no classes.
    """
    if asked is not None and asked not in TASKS:
        hint = f"choose one of {', '.join(TASKS)}"
        raise InvalidInput(f"there is no task {asked}: {hint}", value=asked, where="task", hint=hint)
    if asked not in (None, "retrieval") and not dataset.classes:
        hint = "put the images of each class into a folder, or name them in a column of labels"
        raise InvalidInput(f"{dataset.name} has no classes: {hint}", value=asked, where=dataset.name, hint=hint)
    return asked or ("zero-shot" if dataset.classes else "retrieval")


def retrieve(vectors: VectorFolder, encoded: Encoded, language: str) -> Measured:
    """Retrieval in one language, among the images that have captions in it.

    Raises:
        InvalidInput: no image has one.
    """
    rows = np.array([row for row, captions in enumerate(encoded.captions) if captions.get(language)], dtype=np.int64)
    if not len(rows):
        name = encoded.dataset.name
        hint = "name a dataset with captions, or a task that needs none"
        message = f"{name} has no captions{f' in {language}' if language else ''}: {hint}"
        raise InvalidInput(message, value=language, where=name, hint=hint)
    captions = [encoded.captions[row][language] for row in rows]
    texts = [text for several in captions for text in several]
    owners = np.repeat(np.arange(len(rows)), [len(several) for several in captions])
    images, queries = encoded.rows(rows), vectors.texts(texts)

    def ranked(done: int, total: int) -> None:
        vectors.on_progress("ranks", done, total)

    return Measured(
        task="retrieval",
        language=language,
        encoded=encoded,
        rows=rows,
        queries=queries,
        targets=images,
        names=texts,
        result=metrics.retrieval(images, queries, owners, on_progress=ranked),
    )


def classify(
    vectors: VectorFolder,
    encoded: Encoded,
    names: Sequence[Sequence[str]],
    templates: Sequence[str],
    language: str = "",
) -> Measured:
    """Zero-shot classification of the images that have a class.

    Args:
        vectors: the model's vectors.
        encoded: the dataset.
        names: of each class of the dataset, all that it is called.
        templates: prompt templates, see `fill`.
        language: of the names.

    Raises:
        InvalidInput: no image has a class, or a template has not exactly one place for the name.
    """
    rows = np.array([row for row, labels in enumerate(encoded.labels) if labels], dtype=np.int64)
    if not len(rows):
        raise InvalidInput(f"no image of {encoded.dataset.name} has a class", where=encoded.dataset.name)
    targets = class_vectors(vectors, names, templates)
    images = encoded.rows(rows)
    return Measured(
        task="zero-shot",
        language=language,
        encoded=encoded,
        rows=rows,
        queries=images,
        targets=targets,
        names=[encoded.keys[row] for row in rows],
        result=classified(images, targets, [encoded.labels[row] for row in rows]),
        classes=encoded.dataset.classes,
    )


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a task learns from, and how.

    Attributes:
        train: images to learn from; None: drawn from the dataset, the rest of which is measured.
        shots: the most images of each class; None: 16 in few-shot classification, all (half of those of the dataset)
            in a linear probe.
        method: of few-shot classification, see `tuwen.adapt`.
        seed: of the images that are drawn, and of the folds.
    """

    train: Dataset | None = None
    shots: int | None = None
    method: str = AUTO
    seed: int = 0


def learn_and_classify(
    vectors: VectorFolder,
    encoded: Encoded,
    task: str,
    names: Sequence[Sequence[str]],
    templates: Sequence[str],
    learning: Learning,
) -> Measured:
    """Learn from labelled images, and classify others.

    Args:
        vectors: the model's vectors.
        encoded: the dataset.
        task: `few-shot` or `linear-probe`.
        names: of each class of the dataset, all that it is called.
        templates: prompt templates.
        learning: what is learnt from.

    Raises:
        InvalidInput: there is nothing to learn from or to measure; the images to learn from are those that are
            measured, or have other classes; or there is no such method.
    """
    method = "probe" if task == "linear-probe" else checked_method(learning.method)
    shots = learning.shots or (SHOTS if task == "few-shot" else len(encoded.keys))
    rows, single = _single(encoded.labels)
    labels = np.array(single, dtype=np.int64)
    rejected: tuple[Rejected, ...] = ()
    if learning.train is None:
        drawn = _drawn(labels, shots, learning.seed, keep=True)
        known, truth = encoded.rows(rows[drawn]), labels[drawn]
        rows, labels = np.delete(rows, drawn), np.delete(labels, drawn)
    else:
        others, truth = _train(vectors, encoded, learning.train, shots, learning.seed)
        known, rejected = others.vectors, others.rejected
        drawn = np.empty(0, dtype=np.int64)
    absent = [name for number, name in enumerate(encoded.dataset.classes) if number not in set(truth.tolist())]
    if absent or not len(rows):
        hint = "give images of every class to learn from, with --train, and others to measure"
        what = f"no image to learn from of {', '.join(absent[:5])}" if absent else "no image is left to measure"
        raise InvalidInput(
            f"{encoded.dataset.name}: {what}; {hint}", value=absent, where=encoded.dataset.name, hint=hint
        )
    support = Support(known, truth, class_vectors(vectors, names, templates), vectors.encoder.scoring.scale)
    wanted = selection.for_auto(support) if method == AUTO else (method,)
    choices = selection.choose(support, wanted, seed=learning.seed)
    best = selection.best_of(choices) if method == AUTO else choices[method]
    images = encoded.rows(rows)
    residual = METHODS[best.method].fit(support, best.parameters).of(images)
    scores = support.zero_shot(images) + best.parameters["alpha"] * residual
    return Measured(
        task=task,
        language="",
        encoded=encoded,
        rows=rows,
        queries=images,
        targets=support.texts,
        names=[encoded.keys[row] for row in rows],
        result=metrics.scored(scores, labels, prefix="lp_" if task == "linear-probe" else ""),
        classes=encoded.dataset.classes,
        scores=scores,
        learnt={"method": best.method, "parameters": dict(best.parameters), "support": len(truth)},
        drawn=len(drawn),
        unlearnt=rejected,
    )


def _single(labels: Iterable[tuple[_Label, ...]]) -> tuple[NDArray[np.int64], list[_Label]]:
    """The images that have one class, as rows, and these classes."""
    found = [(row, several[0]) for row, several in enumerate(labels) if len(several) == 1]
    return np.array([row for row, _ in found], dtype=np.int64), [label for _, label in found]


def _drawn(labels: NDArray[np.int64], shots: int, seed: int, *, keep: bool) -> NDArray[np.int64]:
    """Places of so many images of each class. `keep`: at most half of each class, but at least one image."""
    chance = np.random.default_rng(seed)
    found = []
    for label in np.unique(labels):
        own = chance.permutation(np.flatnonzero(labels == label))
        found.append(own[: min(shots, max(len(own) // 2, 1)) if keep else shots])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _train(
    vectors: VectorFolder, encoded: Encoded, train: Dataset, shots: int, seed: int
) -> tuple[Encoded, NDArray[np.int64]]:
    """The images to learn from, and their classes with the numbers that the measured dataset has for them.

    They are drawn before they are read: of a large training set, only these are encoded.
    """
    dataset = encoded.dataset
    if list(identity(train)) == list(identity(dataset)):
        hint = "name other images, or leave --train out to have some of each class put aside"
        raise InvalidInput(f"{dataset.name} is both learnt from and measured: {hint}", where="train", hint=hint)
    unknown = sorted(set(train.classes) ^ set(dataset.classes))
    if unknown:
        hint = f"the classes must be the same; not in both: {', '.join(unknown[:5])}"
        raise InvalidInput(f"{train.name} and {dataset.name} differ: {hint}", value=unknown, where="train", hint=hint)
    places, labels = _single([sample.labels for sample in train.samples])
    number = {name: place for place, name in enumerate(dataset.classes)}
    drawn = _drawn(np.array([number[label] for label in labels], dtype=np.int64), shots, seed, keep=False)
    known = vectors.images(replace(train, samples=SampleList(train.samples[place] for place in places[drawn].tolist())))
    return known, np.array([number[train.classes[label]] for (label,) in known.labels], dtype=np.int64)


def classified(images: Vectors, targets: Vectors, labels: Sequence[tuple[int, ...]]) -> Classification | MultiLabel:
    """Images of one class each, or of several."""
    if all(len(several) == 1 for several in labels):
        return metrics.classification(images, targets, np.array([label for (label,) in labels], dtype=np.int64))
    wanted = np.zeros((len(labels), len(targets)), dtype=bool)
    for row, several in enumerate(labels):
        wanted[row, list(several)] = True
    return metrics.multi_label(images.astype(np.float64) @ targets.T, wanted)


def class_vectors(vectors: VectorFolder, names: Sequence[Sequence[str]], templates: Sequence[str]) -> Vectors:
    """A unit vector for each class: the mean of the unit vectors of all its names in all templates.

    As `build_zero_shot_classifier` of open_clip does it; a class with several names has the mean over all of them.
    """
    texts = [[fill(template, name) for name in several for template in templates] for several in names]
    found = vectors.texts([text for several in texts for text in several]).astype(np.float64)
    counts = [len(several) for several in texts]
    sums = np.add.reduceat(found, np.cumsum([0, *counts[:-1]]), axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)


def names_of(dataset: Dataset, file: Path | None) -> list[list[str]]:
    """What each class is called: as the file says, or the class' own name with spaces for underscores."""
    if file is None:
        return [[name.replace("_", " ")] for name in dataset.classes]
    return read_names(file, dataset.classes)


def read_names(file: Path, classes: Sequence[str]) -> list[list[str]]:
    """Names of classes from a UTF-8 file: a class in each line, several names with commas between them.

        dog, hound                     one line for each class, in their order
        n02084071<TAB>dog, hound       or after the class itself and a tab or a space, in any order

    Raises:
        InvalidInput: the file cannot be read, or does not name every class.
    """
    lines = [line.strip() for line in _read(file).split("\n") if line.strip()]
    keyed: Mapping[str, str] = {key: rest for key, rest in map(_keyed, lines) if rest}
    if set(classes) <= keyed.keys():
        lines = [keyed[name] for name in classes]
    elif len(lines) != len(classes):
        unnamed = [name for name in classes if name not in keyed]
        hint = f"write one line for each class, or begin lines with the class; not named: {', '.join(unnamed[:5])}"
        message = f"{file} has {len(lines)} lines for {len(classes)} classes; {hint}"
        raise InvalidInput(message, value=len(lines), where=file, hint=hint)
    return [[name.strip() for name in line.split(",") if name.strip()] for line in lines]


def _keyed(line: str) -> tuple[str, str]:
    key, _, rest = line.partition("\t") if "\t" in line else line.partition(" ")
    return key.strip(), rest.strip()


def templates_of(dataset: Dataset, given: Sequence[str] | Path | None) -> tuple[str, ...]:
    """Prompt templates: those given, one in each line of a file, else the dataset's own, else the name alone.

    Raises:
        InvalidInput: the file has none, or one without exactly one place for the name.
    """
    if isinstance(given, Path):
        given = [line.strip().replace("{c}", "_") for line in _read(given).split("\n") if line.strip()]
        if not given:
            raise InvalidInput("the file of templates has no lines", value=0, where="templates")
    chosen = tuple(given or dataset.templates or (PLAIN,))
    for template in chosen:
        fill(template, "")
    return chosen


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8"
        raise InvalidInput(f"{file} is not UTF-8 (byte {error.start}): {hint}", where=file, hint=hint) from error
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", where=file) from error
