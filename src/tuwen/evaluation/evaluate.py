"""`tuwen.evaluate`: measure a model on a dataset, compare it with another, or with what an index finds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from tuwen.api import load
from tuwen.classify.learning import AUTO
from tuwen.data.datasets import Dataset, open_dataset
from tuwen.data.samples import Columns
from tuwen.errors import InvalidInput
from tuwen.evaluation import metrics, tasks
from tuwen.evaluation.metrics import Difference, Retrieval
from tuwen.evaluation.tasks import LEARNING, TASKS, Learning, Measured
from tuwen.evaluation.vectors import OnProgress, VectorFolder
from tuwen.index.index import VectorIndex
from tuwen.runtime.encoder import Encoder
from tuwen.types import Rejected

CHANGED = 100
"""queries whose answer changed, that a comparison lists"""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same task by another model.

    Attributes:
        measured: what the other model reached.
        differences: the first model's figures minus the other's, with paired 95 % bootstrap intervals.
        changed: queries that only one of them answers rightly: the query, its rank, and its rank by the other.
        overlap: the share of the ten best results that both have in common.
    """

    measured: Measured
    differences: Mapping[str, Difference]
    changed: Sequence[tuple[str, int, int]]
    overlap: float


@dataclass(frozen=True, slots=True)
class ThroughIndex:
    """Retrieval through an index, beside comparing with every row of it.

    Attributes:
        rows: how many rows the index has.
        queries: how many captions were searched for.
        graph: recall at k as the index finds it.
        exact: recall at k when every row is compared.
        kept: the share of the ten nearest rows that the index finds.
    """

    rows: int
    queries: int
    graph: Mapping[str, float]
    exact: Mapping[str, float]
    kept: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured: one `Measured` for each language.

    Attributes:
        model: the model.
        measured: the results.
        comparisons: one for each of `measured`, where another model was evaluated too.
        against: the other model.
        indexed: one for each of `measured`, where an index was searched too.
        rejected: images that are missing, or cannot be read.
        seconds: how long it took.
    """

    model: Encoder
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    against: Encoder | None
    indexed: tuple[ThroughIndex, ...]
    rejected: tuple[Rejected, ...]
    seconds: float

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of the first result."""
        return self.measured[0].metrics

    def document(self) -> dict[str, Any]:
        """The results in the form of CLIP_benchmark's result files, extended; made of what JSON has."""
        return {
            "results": [self._result(number) for number in range(len(self.measured))],
            "notes": list(self.measured[0].encoded.dataset.notes),
            "rejected": [asdict(item) for item in self.rejected],
            "seconds": self.seconds,
        }

    def _result(self, number: int) -> dict[str, Any]:
        found = describe(self.model, self.measured[number])
        if self.against is not None:
            other = self.comparisons[number]
            found["against"] = describe(self.against, other.measured) | {
                "differences": {name: asdict(value) for name, value in other.differences.items()},
                "changed": len(other.changed),
                "queries": [
                    {"query": query, "rank": rank, "against": rank_there}
                    for query, rank, rank_there in other.changed[:CHANGED]
                ],
                "overlap@10": other.overlap,
            }
        if self.indexed:
            found["index"] = asdict(self.indexed[number])
        return found


def describe(model: Encoder, measured: Measured) -> dict[str, Any]:
    """A result as CLIP_benchmark writes it, with the facts that it can be repeated by."""
    learnt = {} if measured.learnt is None else {name: measured.learnt[name] for name in ("method", "parameters")}
    return {
        "dataset": measured.encoded.dataset.name,
        "model": model.name,
        "pretrained": model.source,
        "task": TASKS[measured.task],
        "metrics": measured.metrics,
        "language": measured.language or None,
        "intervals": {name: list(ends) for name, ends in measured.intervals.items()},
        "counts": measured.counts,
        "fingerprint": model.fingerprint,
        "precision": model.precision,
        "runtime": model.runtime,
        "preprocessing": model.image_spec.model_dump(mode="json") | {"exact_decode": not model.reading.srgb},
    } | learnt


def evaluate(  # noqa: PLR0913  (what is measured, on what, and beside what)
    model: str | Encoder,
    dataset: str | Path | Dataset,
    *,
    task: str | None = None,
    split: str | None = None,
    language: str | None = None,
    images: Path | str | None = None,
    columns: Columns | None = None,
    labels: Path | str | None = None,
    templates: Path | Sequence[str] | None = None,
    against: str | Encoder | None = None,
    index: VectorIndex | None = None,
    vectors: Path | str | None = None,
    train: str | Path | Dataset | None = None,
    shots: int | None = None,
    method: str = AUTO,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure how good a model is on a dataset.

    >>> evaluation = tuwen.evaluate("demo", "photos/", task="zero-shot")  # a folder for each class
    >>> 0 < evaluation.metrics["acc1"] <= 1
    True

    Args:
        model: a model's name or folder, or an encoder.
        dataset: a dataset's folder or file, see `open_dataset`; or one that has been opened.
        task: `retrieval`, `zero-shot`, `few-shot` or `linear-probe`; None: `zero-shot` if the dataset has classes, else
            `retrieval`.
        split: of the dataset; None: `test` if it has one, else all.
        language: measure captions of this language only; None: each language by itself.
        images: the folder that images are in; None: that of the dataset's file.
        columns: what columns of a table are called where not by their usual names.
        labels: a file with the names of classes, see `read_names`; None: the names that the dataset has.
        templates: prompt templates, or a file with one in each line; None: those of the dataset, else the name alone.
        against: another model, measured on the same images and compared.
        index: an index of the same images by the same model, searched with each caption.
        vectors: a folder where vectors are kept for the next evaluation; None: they are not kept.
        train: labelled images that `few-shot` and `linear-probe` learn from; the dataset's own path stands for its
            split `train`. None: some of each class are drawn from the dataset, and the rest is measured.
        shots: the most images of each class to learn from; None: 16 for `few-shot`, all for `linear-probe` (half of
            each class where they are drawn from the dataset).
        method: of `few-shot`, see `tuwen.adapt`.
        seed: of the images that are drawn, and of the folds.
        on_progress: called with what is done (`images`, `texts`, `ranks`), how many so far, and of how many.

    Raises:
        InvalidInput: there is no such dataset, split, language or task; or names or templates do not fit.
        BundleNotFound: there is no such model here.
    """
    start = monotonic()
    opened = dataset
    if not isinstance(opened, Dataset):
        opened = open_dataset(opened, split=split, language=language, images=images, columns=columns)
    chosen = tasks.task_of(opened, task)
    if index is not None and chosen != "retrieval":
        raise InvalidInput(f"an index is evaluated by retrieval, not by {chosen}", value=chosen, where="task")
    if chosen not in LEARNING and (train is not None or shots is not None or method != AUTO):
        hint = f"choose one of {', '.join(LEARNING)}"
        raise InvalidInput(f"{chosen} does not learn from images: {hint}", value=chosen, where="task", hint=hint)
    if isinstance(train, str | Path):
        own = isinstance(dataset, str | Path) and Path(train).resolve() == Path(dataset).resolve()
        train = open_dataset(train, split="train" if own else None, columns=columns)
    by_name = chosen != "retrieval"
    plan = _Plan(
        opened,
        chosen,
        language,
        tasks.names_of(opened, None if labels is None else Path(labels)) if by_name else [],
        tasks.templates_of(opened, templates) if by_name else (),
        Learning(train=train, shots=shots, method=method, seed=seed),
        None if vectors is None else Path(vectors),
        on_progress,
    )
    encoder = load(model) if isinstance(model, str) else model
    other = load(against) if isinstance(against, str) else against
    with plan.folder(encoder) as folder:
        measured = tuple(plan.run(folder))
        comparisons = list[Comparison]()
        if other is not None:
            with plan.folder(other) as beside:
                pairs = zip(measured, plan.run(beside), strict=True)
                comparisons = [_compare(one, two) for one, two in pairs]
        indexed = tuple(through_index(index, each) for each in measured) if index is not None else ()
        rejected = measured[0].encoded.rejected + measured[0].unlearnt
        evaluation = Evaluation(encoder, measured, tuple(comparisons), other, indexed, rejected, monotonic() - start)
        for each in (*measured, *(comparison.measured for comparison in comparisons)):
            _ = each.metrics, each.intervals
        return evaluation


@dataclass(frozen=True)
class _Plan:
    """What is measured of each model."""

    dataset: Dataset
    task: str
    language: str | None
    names: Sequence[Sequence[str]]
    templates: Sequence[str]
    learning: Learning
    vectors: Path | None
    on_progress: OnProgress | None

    def folder(self, encoder: Encoder) -> VectorFolder:
        return VectorFolder(encoder, self.vectors, on_progress=self.on_progress)

    def run(self, folder: VectorFolder) -> Iterator[Measured]:
        encoded = folder.images(self.dataset)
        if self.task == "zero-shot":
            yield tasks.classify(folder, encoded, self.names, self.templates, self.language or "")
            return
        if self.task in LEARNING:
            yield tasks.learn_and_classify(folder, encoded, self.task, self.names, self.templates, self.learning)
            return
        for language in encoded.languages() or [""]:
            yield tasks.retrieve(folder, encoded, language)


def _compare(one: Measured, other: Measured) -> Comparison:
    if one.encoded.keys != other.encoded.keys:
        raise InvalidInput(
            f"the two models read different images of {one.encoded.dataset.name}; use images that both read",
            where=one.encoded.dataset.name,
        )
    changed = np.flatnonzero((one.ranks == 1) != (other.ranks == 1))
    return Comparison(
        other,
        metrics.difference(one.result, other.result),
        [(one.names[query], int(one.ranks[query]), int(other.ranks[query])) for query in changed.tolist()],
        metrics.overlap(one.best, other.best),
    )


def through_index(index: VectorIndex, measured: Measured) -> ThroughIndex:
    """Search an index with each caption, by its graph and exactly.

    An image of the dataset is the row whose path is its key, with or without an extension, or ends with its file name.

    Raises:
        InvalidInput: the index has none of the images, or is another model's.
    """
    assert isinstance(measured.result, Retrieval), measured.task
    places = _Places(measured)
    found = {"graph": np.zeros(metrics.KS[-1]), "exact": np.zeros(metrics.KS[-1])}
    kept, known = 0.0, set[int]()
    for query, owner in zip(measured.queries, measured.result.owners, strict=True):
        hits = {
            "graph": index.search(np.asarray(query), metrics.KS[-1]),
            "exact": index.search(np.asarray(query), metrics.KS[-1], exact=True),
        }
        for way, several in hits.items():
            shown = [places.of(str(hit.payload.get("path", ""))) for hit in several]
            known |= set(shown) - {-1}
            if owner in shown:
                found[way][shown.index(owner) :] += 1
        best = {hit.id for hit in hits["exact"]}
        kept += len(best & {hit.id for hit in hits["graph"]}) / max(len(best), 1)
    if not known:
        hint = "index the folder of the dataset's images with this model"
        raise InvalidInput(f"the index has none of the images of {measured.encoded.dataset.name}: {hint}", hint=hint)
    count = len(measured.queries)
    recalls = {
        way: {f"image_retrieval_recall@{k}": float(sums[k - 1] / count) for k in metrics.KS}
        for way, sums in found.items()
    }
    return ThroughIndex(index.info().rows, count, recalls["graph"], recalls["exact"], kept / count)


class _Places:
    """Which image of a dataset a row's path is."""

    def __init__(self, measured: Measured) -> None:
        encoded = measured.encoded
        self._keys = {encoded.keys[row]: image for image, row in enumerate(measured.rows)}
        self._files = {encoded.files[row].rpartition("/")[2]: image for image, row in enumerate(measured.rows)}

    def of(self, path: str) -> int:
        """The number of the image; -1 where it is none of them."""
        stem = path.rpartition(".")[0]
        for known, name in ((self._keys, path), (self._keys, stem), (self._files, path.rpartition("/")[2])):
            if name in known:
                return known[name]
        return -1
