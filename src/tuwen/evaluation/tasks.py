"""The tasks that a model is measured on: an encoded dataset -> ranks, metrics and their intervals.

retrieval       captions find their image among all images, and images their captions
zero-shot       images are classified by the names of the classes, in prompt templates
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuwen.classify.labels import PLAIN, fill
from tuwen.data.datasets import Dataset
from tuwen.errors import InvalidInput
from tuwen.evaluation import metrics
from tuwen.evaluation.metrics import Classification, MultiLabel, Result, Retrieval
from tuwen.evaluation.vectors import Encoded, VectorFolder
from tuwen.types import Vectors

BEST = 10
"""results of each query that are looked at: in comparisons, and for what was found in place of the right one"""

TASKS = {"retrieval": "zeroshot_retrieval", "zero-shot": "zeroshot_classification"}
"""tasks, and what CLIP_benchmark calls them"""


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
        other = {"classes": len(self.targets)} if self.classes else {"captions": len(self.queries)}
        return {"images": len(self.rows), "of_images": self.encoded.total} | other

    @cached_property
    def best(self) -> NDArray[np.int64]:
        """(m, 10) the best targets of each query."""
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
    if asked == "zero-shot" and not dataset.classes:
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
        raise InvalidInput(f"{name} has no captions{f' in {language}' if language else ''}", value=language, where=name)
    captions = [encoded.captions[row][language] for row in rows]
    texts = [text for several in captions for text in several]
    owners = np.repeat(np.arange(len(rows)), [len(several) for several in captions])
    images, queries = encoded.rows(rows), vectors.texts(texts)
    return Measured(
        task="retrieval",
        language=language,
        encoded=encoded,
        rows=rows,
        queries=queries,
        targets=images,
        names=texts,
        result=metrics.retrieval(images, queries, owners),
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
