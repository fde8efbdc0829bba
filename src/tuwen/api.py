"""The public API: loading a model, and an index that loads its own model.

The command line, the server and Python users call the same functions. Names are published by `tuwen/__init__.py`.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Literal, Self, TypeAlias, cast

import numpy as np

from tuwen.classify.classifier import Classifier
from tuwen.classify.labels import PLAIN
from tuwen.data.files import find_files, is_file
from tuwen.data.formats import format_of_name
from tuwen.data.samples import Columns
from tuwen.data.selection import Selection
from tuwen.data.tables import read_captions
from tuwen.demo import packaged_names
from tuwen.errors import BundleNotFound, IndexNotFound, InvalidInput
from tuwen.index.index import Opened, VectorIndex, check_design, check_model, design_at, make, open_parts
from tuwen.index.location import Location, resolve_location
from tuwen.index.manifest import Model
from tuwen.index.rows import unit_vector
from tuwen.ingest.images import ImageIngest, ingest
from tuwen.ingest.migrate import migrate
from tuwen.ingest.selection import read_selection
from tuwen.ingest.sync import MAX_REMOVED, keys_at, sync
from tuwen.ingest.texts import ingest_list, ingest_texts
from tuwen.ingest.writer import IngestReport, run
from tuwen.progress import Progress
from tuwen.runtime.encoder import Encoder as RuntimeEncoder
from tuwen.runtime.loading import Choice, default_model, load_encoder, portable_name
from tuwen.search import search as searching
from tuwen.search.duplicates import Duplicates, Group
from tuwen.search.query import Operand, Query, RowId, terms_of
from tuwen.search.threshold import auto_threshold
from tuwen.settings import read_settings
from tuwen.types import Hit, Row

TEXT_FILES = (".txt", ".csv", ".tsv", ".jsonl")
"""what the names of files of texts end with"""


class Encoder(RuntimeEncoder):
    """A model that turns images and texts into unit vectors, and labels into a classifier.

    >>> encoder = tuwen.load("demo")
    >>> encoder.encode_texts(["a red apple", "ein Hund"]).shape == (2, encoder.dim)
    True
    """

    @property
    def folder(self) -> Path:
        """The folder of its bundle."""
        return self._bundle.folder

    def classifier(
        self, labels: Sequence[str], template: str | Sequence[str] = PLAIN, *, multi_label: bool = False
    ) -> Classifier:
        """A classifier of images by labels that the model has not been trained on; see `Classifier`.

        Args:
            labels: at least one, all different.
            template: a sentence with one `_` or `{}` for the label, or several whose vectors are averaged.
            multi_label: judge each label by itself instead of against the others.

        Raises:
            InvalidInput: no label, a label twice, or a template that has not exactly one place for the label.

        >>> classifier = tuwen.load("demo").classifier(["apple", "dog", "flag"])
        >>> [prediction] = classifier.predict([Path("photos/food-and-drink/red-apple.webp")])
        >>> prediction.labels[0].label
        'apple'
        """
        return Classifier(self, labels, template=template, multi_label=multi_label)


def load(  # noqa: PLR0913  (how a model computes)
    model: str,
    *,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    exact_decode: bool = False,
    measure: bool = False,
) -> Encoder:
    """Load a model: a bundle's folder, or the name of a model that is packaged or on this machine.

    Args:
        model: what to load. Foreign ONNX layouts (Hugging Face's, immich's) are read in place.
        runtime: `auto`, `onnxruntime` or `openvino`. Here and below, `auto` is what the settings say, which is to
            choose unless they have been changed.
        device: `auto`, or e.g. `cpu`, `cuda:1`, `tensorrt`, `openvino:GPU`.
        precision: `fp32`, `bf16`, `fp16` or `int8`; `auto`, the fastest of these that keeps the vectors exact, never
            int8; or `fast`, the fastest that passed verification, int8 included. `Encoder.precision` says which.
        threads: for computing and for decoding; None: what the settings say, or all cores that this process may use.
        exact_decode: decode JPEGs at full scale, as the reference libraries do: slower, vectors equal to theirs in
            every digit that counts. By default they are decoded at a scale close to the model's input size.
        measure: what is fastest is measured once on each machine, in a few seconds: by commands that run for long, by
            `Index.build`, for `fast`, and here if this is True. Until then `auto` is fp32 on the default runtime.

    Returns:
        The encoder.

    Raises:
        BundleError: there is no such model on this machine, or its files are invalid.
        RuntimeUnavailable: the runtime, device or precision is not available; the message lists those that are.

    >>> tuwen.load("demo", precision="fp32").precision
    'fp32'
    """
    settings = read_settings()
    return load_encoder(
        model,
        Choice.with_settings(settings, runtime, device, precision, threads),
        models=settings.models,
        cache=settings.cache,
        max_pixels=settings.max_pixels,
        exact_decode=exact_decode,
        measure=measure,
        kind=Encoder,
    )


Loader: TypeAlias = Callable[[str], Encoder]
"""loads a model by its name or folder, as `load` does"""
Inputs: TypeAlias = str | Path | Sequence[Path] | Sequence[str] | Mapping[str, str]
"""what an index is built of: a path or several, or texts"""


class Index(VectorIndex):
    """Images and texts of one model, searchable by text, image and vector.

    A context manager; or call `close`, or let the process end: everything that a method returned from is on the
    disk. Safe in several threads. While it is open, no other process can open the same folder.

    Attributes:
        place: where it is: a folder, or a collection of a Qdrant cluster.
        root: the folder that the keys of images are relative to.
        report: what the last `build`, `add` or `sync` did, with the files that it could not read; None before.

    >>> with tuwen.Index.build("photos/", "photos.tuwen", model="demo") as index:
    ...     hits = index.search("a red apple", k=3)
    >>> hits[0].payload["path"]
    'food-and-drink/red-apple.webp'
    """

    def __init__(self, parts: Opened, encoder: Model | None, quantize_above: int, load: Loader = load) -> None:
        """Not for callers: see `build` and `open`."""
        super().__init__(parts, encoder, quantize_above)
        self.report: IngestReport | None = None
        self._load = load
        self._loading = Lock()

    @classmethod
    def build(  # noqa: PLR0913  (all properties of an index)
        cls,
        source: Inputs,
        place: Location | str,
        model: str | Encoder | None = None,
        *,
        kind: str | None = None,
        metric: str | None = None,
        store: str | None = None,
        columns: Columns | None = None,
        selection: Selection | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Build an index of a folder of images or of texts, or update it; interrupted, run it again to go on.

        New and changed inputs are read, the others are left alone; rows of files that are gone stay (see `sync`).
        Images that cannot be read are listed in `report.rejected`, with the reason.

        Args:
            source: a folder; or anything that `add` takes.
            place: the index: a folder such as `photos.tuwen`, or a URL such as `qdrant://host:6333/photos`.
            model: a model's name or folder, or a loaded encoder; None: the index's own, or `TUWEN_DEFAULT_MODEL` for
                a new index.
            kind: of a new index, how rows are found: `hnsw` (default), `flat` or `ivf`.
            metric: of a new index: `cosine` (default) or `l2`; scores are cosines in any case.
            store: of a new index: `qdrant-edge` or `faiss` (the default for `ivf`).
            columns: of files of texts that have columns.
            selection: which files in folders are taken, see `Selection`; the index remembers it. None: those that it
                remembers, at first all but system folders, partial downloads and the like.
            progress: show a progress bar; None: on a terminal.

        Raises:
            InvalidInput: there is nothing at `source`; or the index has another root, kind, metric or store.
            WrongModel: the index holds vectors of another model.
            BundleNotFound: the model is not on this machine.
            IndexLocked: another process has the index open.

        >>> with tuwen.Index.build(["a red apple", "a dog"], "captions.tuwen", model="demo") as index:
        ...     index.search("fruit", k=1)[0].payload["text"]
        'a red apple'
        """
        folder = Path(source) if isinstance(source, str | Path) else None
        index = cls.open_or_create(
            place,
            None if folder is None else folder if folder.is_dir() else folder.absolute().parent,
            model,
            design={name: it for name, it in (("kind", kind), ("metric", metric), ("store", store)) if it is not None},
            same_root=folder is not None and folder.is_dir(),
            load=partial(load, measure=True),
        )
        try:
            index.add(source, columns=columns, selection=selection, progress=progress)
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    def open(  # type: ignore[override]  # None as the encoder: the index's own model, loaded when it is needed
        cls,
        place: Location | str,
        model: str | None = None,
        *,
        encoder: Encoder | None = None,
        load: Loader = load,
        lock_timeout: float | None = None,
        quantize_above: int | None = None,
    ) -> Self:
        """Open an index. Its model is loaded when it is first needed.

        Args:
            place: its folder, or a cluster's URL such as `qdrant://host:6333/photos`.
            model: where its model is, if it has been moved since; loaded at once.
            encoder: its model, if it is loaded already.
            load: loads the model, e.g. `functools.partial(tuwen.load, precision="int8")`.
            lock_timeout: seconds to wait for another process that has it open; None: what the settings say.
            quantize_above: see `VectorIndex.open`; None: what the settings say.

        Raises:
            IndexNotFound: there is none.
            IndexInvalid: it is not one that this version reads.
            WrongModel: its vectors are another model's.
            IndexLocked: it is open already, here or elsewhere. The message names the process.
            InvalidInput: both `model` and `encoder` are given.

        >>> index = tuwen.Index.open("photos.tuwen")
        >>> index.info().model
        'pictograms'
        >>> index.close()
        """
        if model is not None and encoder is not None:
            raise InvalidInput("both model and encoder are given: leave one out", value=model, where="model")
        settings = read_settings()
        given = load(model) if model is not None else encoder
        patience = settings.lock_timeout if lock_timeout is None else lock_timeout
        above = settings.quantize_above if quantize_above is None else quantize_above
        return cls(open_parts(resolve_location(place, settings), given, patience), given, above, load)

    @classmethod
    def open_or_create(
        cls,
        place: Location | str,
        root: Path | None,
        model: str | Encoder | None = None,
        *,
        design: Mapping[str, str] | None = None,
        same_root: bool = False,
        load: Loader = load,
    ) -> Self:
        """Open an index, or create an empty one; its model is loaded once.

        Args:
            place: see `build`.
            root: of a new index, the folder that keys are relative to; None: the one that the index is in.
            model: see `build`.
            design: `kind`, `metric` and `store`, see `build`; of an index that exists, they must be its own.
            same_root: whether an index that exists must have this root.
            load: see `open`.

        Raises:
            TuwenError: see `build`.

        >>> with tuwen.Index.open_or_create("empty.tuwen", Path("photos"), "demo", design={"kind": "flat"}) as index:
        ...     index.info().rows, index.info().kind
        (0, 'flat')
        """
        settings = read_settings()
        where, asked = resolve_location(place, settings), dict(design or {})
        encoder = None if isinstance(model, str) else model
        try:
            index = cls.open(where, encoder=encoder, load=load)
        except IndexNotFound:
            name = default_model(settings.default_model, settings.models) if model is None else str(model)
            new = load(name) if encoder is None else encoder
            bundle = portable_name(name) if encoder is None else _portable_name_of(new)
            make(where, new, root, design_at(where, asked), bundle=bundle)
            return cls.open(where, encoder=new, load=load)
        try:
            check_design(index._manifest, where, asked)
            if same_root and root is not None:
                index._check_root(root)
            if isinstance(model, str):
                index._use(load(model))
        except BaseException:
            index.close()
            raise
        return index

    @property
    def encoder(self) -> Encoder:
        """The model, loaded when it is first needed.

        Raises:
            BundleNotFound: it is not on this machine.
            WrongModel: what has its name now is another model.
        """
        with self._loading:
            if self._encoder is None:
                self._use(self._named_model())
        return cast(Encoder, self._encoder)

    def search(  # noqa: PLR0913  (the signature of Client.search)
        self,
        query: Operand | Query,
        k: int = 10,
        *,
        where: str | None = None,
        min_score: float | Literal["auto"] | None = None,
        exact: bool = False,
        diversity: float = 0.0,
        unique: float | None = None,
        sort: str | None = None,
    ) -> list[Hit]:
        """Find the rows that are nearest to a query, best first.

        `Hit.score` is the cosine with the query. Rows that are part of the query are no hits.

        Args:
            query: a text (`str`), an image file (`Path`), an image file's content, a Pillow image, a (dim,) vector of
                any length, a row (a `Hit`); or a `Query` of several of these, with weights.
            k: the most hits to return.
            where: a filter, e.g. `width >= 1024 and folder == "2023"`.
            min_score: leave out hits of a lower cosine; `auto` for the threshold that `tuwen calibrate` measured.
            exact: compare with every row instead of searching the approximate index.
            diversity: 0 to 1, how much hits should differ from each other.
            unique: fold hits whose cosine to a better hit is at least this into that hit, see `Hit.similar`.
            sort: order the hits by a field of their rows, such as `taken`, or `-taken` for the newest first; None: best
                first.

        Raises:
            InvalidInput: an argument is out of range, the filter cannot be parsed, a text is empty, a row does not
                exist, the parts of the query cancel each other out, or no threshold has been measured.
            InvalidVectors: a vector of another dimension, not finite, or zero.
            RejectedImages: an image of the query cannot be read.

        >>> index = tuwen.Index.open("photos.tuwen")
        >>> index.search("a red apple", k=1)[0].payload["name"]
        'red-apple.webp'
        >>> hits = index.search(Path("photos/food-and-drink/red-apple.webp"), k=3, where='folder == "food-and-drink"')
        >>> hits[0].score > 0.999
        True
        >>> hits = index.search(tuwen.Query(like=["fruit", (hits[0], 0.5)], unlike=["red"]), k=3)
        >>> index.close()
        """
        if isinstance(query, np.ndarray) and min_score != "auto" and not diversity and unique is None:
            hits = super().search(unit_vector(query), k, where=where, min_score=min_score, exact=exact)
            return searching.ordered(hits, sort)
        terms = terms_of(query)
        least = (
            auto_threshold(terms, self, self.info(), self.calibration()).min_score if min_score == "auto" else min_score
        )
        strategy = query.strategy if isinstance(query, Query) else "average"
        wanted = searching.Wanted(k, least, where, exact, strategy, diversity, unique)
        needs_model = any(not isinstance(term.what, np.ndarray | RowId) for term in terms)
        while True:
            generation = self._manifest.generation
            hits = searching.search(terms, self.encoder if needs_model else None, self, wanted)
            if generation == self._manifest.generation:
                return searching.ordered(
                    hits, sort
                )  # else another thread has migrated the index since: the query's vector is the old model's

    def add(
        self,
        source: Inputs,
        *,
        columns: Columns | None = None,
        selection: Selection | None = None,
        progress: bool | None = None,
    ) -> IngestReport:
        """Add images or texts; new and changed ones are read, the others left alone.

        Args:
            source: a folder, an image file, or a list of such `Path`s; a file of texts (`.txt`, `.csv`, `.tsv`,
                `.jsonl`) or a list of such `Path`s, whose rows become equal to the file; a list of texts (`str`); or
                a mapping of keys to texts.
            columns: of files of texts that have columns.
            selection: which files in folders are taken, see `build`.
            progress: show a progress bar; None: on a terminal.

        Returns:
            What was done, also as `report`. Images that cannot be read are in `rejected`, with the reason.

        Raises:
            InvalidInput: there is nothing at a path, or the list mixes kinds.

        >>> with tuwen.Index.open("photos.tuwen") as index:
        ...     report = index.add("photos/")
        >>> report.indexed, report.replaced, report.rejected
        (0, 0, ())
        """
        reports, total = self._ingest(source, columns, selection)
        return self._run(reports, total, progress)

    def sync(
        self,
        folder: str | Path | None = None,
        *,
        selection: Selection | None = None,
        verify_content: bool = False,
        max_removed: float = MAX_REMOVED,
        refresh_facts: bool = False,
        progress: bool | None = None,
    ) -> IngestReport:
        """Make the rows of all images below a folder equal to what is there: new, changed, moved and deleted files.

        Rows of images elsewhere, and of texts, stay. A moved file keeps its vector.

        Args:
            folder: a folder; None: `root`.
            selection: which files in folders are taken, see `build`.
            verify_content: read all files, to find those that were edited without a change of size and time.
            max_removed: the largest share of the folder's rows that may be removed, so that a disk that is not mounted
                empties no index; 1: all may go.
            refresh_facts: also read again when and where unchanged images were taken, and with what; they are not
                encoded again.
            progress: show a progress bar; None: on a terminal.

        Raises:
            InvalidInput: the folder is not there or cannot be read. No row was removed.
            TooManyRemoved: more than `max_removed` would go. No row was removed.

        >>> with tuwen.Index.open("photos.tuwen") as index:
        ...     index.sync().removed
        0
        """
        top = self.root if folder is None else Path(folder)
        images = ImageIngest(self.encoder, self, selection, verify_content=verify_content, refresh_facts=refresh_facts)
        reports = sync(top, images, max_removed=max_removed)
        return self._run(reports, lambda: self._count_files([top], images.selection), progress)

    def migrate(
        self, model: str | Encoder, *, allow_missing: bool = False, progress: bool | None = None
    ) -> IngestReport:
        """Encode all rows again with another model, then put them in place of the old ones, atomically.

        Keys, ids and payloads are kept; thresholds that `tuwen calibrate` measured are not used any more. Interrupted,
        run it again to go on. Until the rows change places, other threads can search the old ones; a search that is
        under way at that moment can fail. In a cluster it does not work.

        Args:
            model: a model's name or folder, or a loaded encoder.
            allow_missing: leave out rows whose file is gone or cannot be read.
            progress: show a progress bar; None: on a terminal.

        Returns:
            What was done, also as `report`: `indexed` counts the rows that were encoded, `unchanged` those of an
            earlier run, `rejected` lists those that were left out, with the reason.

        Raises:
            RejectedImages: files are gone or cannot be read, and `allow_missing` is not set; or none can be read. The
                index is as it was.
            BundleNotFound: the model is not on this machine.
            InvalidInput: the index is in a cluster.

        >>> with tuwen.Index.open("photos.tuwen") as index:
        ...     report = index.migrate("demo")  # the model that it has: nothing to do
        >>> report.rows > 0, report.indexed
        (True, 0)
        """
        encoder = self._load(model) if isinstance(model, str) else model
        bundle = portable_name(model) if isinstance(model, str) else _portable_name_of(encoder)
        reports = migrate(lambda: nullcontext(self), encoder, bundle, allow_missing=allow_missing)
        return self._run(reports, lambda: self.info().rows, progress)

    def remove(self, rows: Sequence[str | Path | Hit | RowId] | None = None, *, where: str | None = None) -> int:
        """Remove rows; the files stay where they are.

        Args:
            rows: keys, hits or row ids; or `Path`s of files and folders, there or gone.
            where: a filter: remove all rows that it keeps. Give either this or `rows`.

        Returns:
            How many rows there were.

        Raises:
            InvalidInput: neither or both are given, or the filter cannot be parsed.

        >>> with tuwen.Index.open("captions.tuwen") as index:
        ...     index.remove(["no such key"]), index.remove(where='text contains "dog"')
        (0, 1)
        """
        if (rows is None) == (where is None):
            raise InvalidInput("give either rows or where: which rows to remove", value=rows, where="rows")
        if isinstance(rows, str | Path | Hit | RowId):
            raise InvalidInput(f"a single row is given where a list is expected: write [{rows!r}]", value=rows)
        return super().remove(self.keys(where) if rows is None else self._keys(rows))

    def duplicates(self, threshold: float = 0.97, *, progress: bool | None = None) -> list[Group]:
        """Groups of rows that are nearly the same, largest first; in each the largest image first.

        Groups are connected: where a is near b and b near c, all three are in one.

        Args:
            threshold: the cosine from which two rows are nearly the same.
            progress: show a progress bar; None: on a terminal.

        Raises:
            InvalidInput: the threshold is not above 0, or above 1.

        >>> with tuwen.Index.open("photos.tuwen") as index:
        ...     groups = index.duplicates(0.98)
        >>> all(len(group) > 1 for group in groups)
        True
        """
        search = Duplicates(self, threshold)
        with Progress(_kind(progress)) as bar:
            for number, step in enumerate(search):
                if number == 0:
                    bar.begin(step.total)
                bar.show(step.done)
        return search.groups()

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows whose vectors are known already; see `VectorIndex.upsert`.

        >>> from tuwen.types import Row
        >>> with tuwen.Index.open("captions.tuwen") as index:
        ...     [vector] = index.encoder.encode_texts(["a blue flag"])
        ...     index.upsert([Row("mine", vector, {"type": "text", "text": "a blue flag"})])
        """
        _ = self.encoder  # rows note what their model computes in
        super().upsert(rows)

    def _run(self, reports: Generator[IngestReport], total: Callable[[], int], progress: bool | None) -> IngestReport:
        self.report = run(reports, total, _kind(progress))
        return self.report

    def _ingest(
        self, source: Inputs, columns: Columns | None, selection: Selection | None
    ) -> tuple[Generator[IngestReport], Callable[[], int]]:
        """The ingest of some inputs, and what counts them."""
        if isinstance(source, str | Path):
            source = [Path(source)]
        if isinstance(source, Mapping) or all(isinstance(item, str) for item in source):
            texts = cast(Mapping[str, str] | Sequence[str], source)
            _refuse_image_files([] if isinstance(texts, Mapping) else texts)
            return ingest_list(texts, self.encoder, self), lambda: len(texts)
        paths = [item for item in source if isinstance(item, Path)]
        files = [path for path in paths if path.suffix.lower() in TEXT_FILES and path.is_file()]
        if len(paths) < len(source) or (files and len(files) < len(paths)):
            raise InvalidInput("the inputs are of several kinds: add images, files of texts, and texts one by one")
        for path in paths:
            if not os.path.lexists(path):
                raise InvalidInput(f"there is no file or folder {path}", value=path)
        if files:
            chosen = columns or Columns()
            reports = ingest_texts(files, self.encoder, self, chosen)
            return reports, lambda: sum(1 for file in files for _ in read_captions(file, chosen))
        chosen_files = read_selection(self.folder).selection if selection is None else selection
        return ingest(paths, self.encoder, self, selection), lambda: self._count_files(paths, chosen_files)

    def _count_files(self, paths: Sequence[Path], selection: Selection) -> int:
        return sum(1 for _ in find_files(paths, self.root, but=self.folder, selection=selection))

    def _keys(self, rows: Sequence[str | Path | Hit | RowId]) -> list[str]:
        """The keys of rows that are named in any way; of those that do not exist, some or none."""
        keys = [row for row in rows if isinstance(row, str)]
        ids = [row.id for row in rows if isinstance(row, Hit | RowId)]
        keys += [str(row.payload["path"]) for row in self.get(ids).values()]
        if paths := [row for row in rows if isinstance(row, Path)]:
            stored = self.keys()
            keys += [key for path in paths for key in keys_at(str(path), self.root, stored)]
        return list(dict.fromkeys(keys))

    def _check_root(self, root: Path) -> None:
        if not (self.root.exists() and self.root.samefile(root)):
            raise InvalidInput(
                f"{self.place} is the index of {self.root}, not of {root}: tuwen index add {root} --index {self.place} "
                "adds to it, another --index makes a new one",
                value=root,
                where=self.place,
                hint="add to the index that exists, or build another one",
            )

    def _use(self, encoder: Model) -> None:
        """Search and write with this model, if it is the index's; else WrongModel."""
        check_model(self._manifest, self.place, encoder)
        self._encoder = encoder

    def _named_model(self) -> Encoder:
        """The index's own model: where it was when the index was made, or by its name."""
        manifest = self._manifest
        for model in filter(None, (manifest.bundle, manifest.model)):
            with suppress(BundleNotFound):
                return self._load(model)
        hint = f"put it back, or get it with tuwen pull {manifest.model}, or say where it is with --model FOLDER"
        raise BundleNotFound(
            f"{self.place} was made with the model {manifest.model} ({manifest.bundle}), which is not on this machine: "
            f"{hint}",
            value=manifest.model,
            where=self.place,
            hint=hint,
        )


def _kind(progress: bool | None) -> str:
    return "none" if progress is False else "auto"


def _portable_name_of(encoder: Encoder) -> str:
    """What finds a loaded model again: the name of a packaged model, or its folder."""
    return next(iter(packaged_names(encoder.folder)), str(encoder.folder.absolute()))


def _refuse_image_files(texts: Sequence[str]) -> None:
    """A path as `str` in a list would become a text: refused where it is the path of an image file."""
    for text in texts:
        if format_of_name(text) and is_file(Path(text)):
            hint = "write Path(…) for files; a str in a list is a text"
            raise InvalidInput(f"{text!r} is an image file: {hint}", value=text, hint=hint)
