"""An index without its model: rows of vectors and payloads, in a folder or in a cluster; see `tuwen.Index`."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic_core import to_json

from tuwen.errors import IndexNotFound, InvalidInput, WrongModel
from tuwen.index.calibration import CALIBRATION, Calibration
from tuwen.index.filters import SCANNED, TIMES, checked_field, in_order, parse
from tuwen.index.location import Cluster, Location, parse_location
from tuwen.index.lock import Lock
from tuwen.index.manifest import (
    MANIFEST,
    Info,
    Manifest,
    Model,
    not_found,
    read_manifest,
    root_from_text,
    root_to_text,
    write_manifest,
)
from tuwen.index.rows import checked_limits, checked_payload, checked_query, checked_rows
from tuwen.index.space import give_up_reserve
from tuwen.index.storage import (
    ClusterStorage,
    FolderStorage,
    Storage,
    clear_generations,
    creating,
    disk_usage,
    is_read_only,
    private_copy,
    rows_folder,
    snapshot,
)
from tuwen.index.store import Design, Known, Store, Stored, Vector, design, row_id
from tuwen.index.stores import qdrant_collection as cluster_collection
from tuwen.index.stores.faiss import FaissStore
from tuwen.index.stores.qdrant_cluster import ClusterStore
from tuwen.index.stores.qdrant_collection import Link
from tuwen.index.stores.qdrant_edge import QdrantStore
from tuwen.types import Hit, Payload, Row

PAGE = 1_000
"""rows that are read at a time"""


PERIODS = {"year": 12, "month": 1}
"""what rows are counted by in time -> months"""
SPANS = (1200, 120, 12, 1)
"""months of the spans that are counted, each a part of the one before"""


class Lookup:
    """The methods of a `VectorIndex` that find rows by key, id, content or filter, not by a vector."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Key to payload, for those keys that exist."""
        return self._store.payloads(keys)

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Id to row, without its vector, for those ids that exist. A row's id is that of its `Hit`."""
        return self._store.get(ids)

    def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """Id to vector, (dim,) float32 of length 1, for those ids that exist."""
        return self._store.vectors(ids)

    def known(self, content: str) -> Known | None:
        """A row whose content has this sha256: its payload and its vector; None if there is none."""
        return self._store.known([content]).get(content)

    def vectors_of(self, contents: Sequence[str]) -> dict[str, Vector]:
        """Content to the vector of a row that has it, for those contents that exist."""
        return {content: row.vector for content, row in self._store.known(contents).items()}

    def count(self, where: str | None = None) -> int:
        """The number of rows; with `where`, of those that match it (else InvalidInput)."""
        return self._store.count(None if where is None else parse(where))

    def keys(self, where: str | None = None, sort: str = "path") -> Sequence[str]:
        """The keys of the rows; with `where`, of those that match it (else InvalidInput).

        Args:
            where: a filter.
            sort: a field, with `-` before it for the reverse order. Rows without the field come last.
        """
        keys = self._store.keys(None if where is None else parse(where))
        field = checked_field(sort.removeprefix("-"), str, int, float)
        if field == "path":
            return keys[::-1] if sort.startswith("-") else keys
        found = {str(row.payload["path"]): row.payload.get(field) for row in self.list(where)}
        return in_order(keys, found, sort)

    def values(self, field: str) -> dict[str, int]:
        """Each text in a field, and the number of rows that have it (InvalidInput: not a field of texts)."""
        if checked_field(field, str) in SCANNED:
            return dict(Counter(str(value) for value in self._scanned(field)))
        return self._store.values(field)

    def bounds(self, field: str) -> tuple[float, float] | None:
        """The least and the greatest number in a field, None if no row has one (InvalidInput: it holds texts)."""
        if checked_field(field, int, float) in SCANNED:
            numbers = [float(value) for value in self._scanned(field)]
            return (min(numbers), max(numbers)) if numbers else None
        return self._store.bounds(field)

    def facets(self, by: str, where: str | None = None) -> dict[str, int]:
        """How many rows there are of each value, e.g. of each camera: the most first, years and months in order.

        Args:
            by: a field of texts, such as `camera` or `folder`; or `year` or `month`, in which an image was taken.
            where: count only rows that match this filter.

        Raises:
            InvalidInput: there is no such field, or the filter cannot be understood.
        """
        if by in PERIODS:
            return self.periods(by, where=where)
        if where is None:
            found: Mapping[str, int] = self.values(by)
        else:
            field = checked_field(by, str)
            found = Counter(str(row.payload[field]) for row in self.list(where) if field in row.payload)
        return dict(sorted(found.items(), key=lambda facet: (-facet[1], facet[0])))

    def list(self, where: str | None = None, sort: str = "path") -> Iterator[Stored]:
        """The rows, without their vectors, by key or in another order, see `keys`."""
        if sort == "path":
            yield from self._store.scan(None if where is None else parse(where))
            return
        ordered = self.keys(where, sort)
        for start in range(0, len(ordered), PAGE):
            keys = ordered[start : start + PAGE]
            rows = self.get([str(row_id(key)) for key in keys])
            yield from (rows[ident] for key in keys if (ident := str(row_id(key))) in rows)

    def periods(self, by: str, field: str = "taken", where: str | None = None) -> dict[str, int]:
        """How many rows there are of each year (`2023`) or month (`2023-05`), in order; those without any are left out.

        Args:
            by: `year` or `month`.
            field: `taken` or `modified`. A year begins as in this machine's time zone, as in filters.
            where: count only rows that match this filter.

        Raises:
            InvalidInput: there is no such period or field, or the filter cannot be understood.
        """
        if by not in PERIODS or field not in TIMES:
            hint = f"count by {' or '.join(PERIODS)}, of {' or '.join(TIMES)}"
            raise InvalidInput(f"cannot count {field} by {by}: {hint}", value=(by, field), where="by", hint=hint)
        bounds = self.bounds(field)
        if bounds is None:
            return {}
        first, last = (_month(seconds) for seconds in bounds)
        steps = SPANS[: SPANS.index(PERIODS[by]) + 1]
        return dict(self._counted(field, "" if where is None else f"({where}) and ", range(first, last + 1), steps))

    def _counted(self, field: str, also: str, months: range, steps: Sequence[int]) -> Iterator[tuple[str, int]]:
        """Rows by period. Only spans that have rows are divided: a single wrong date makes them centuries long."""
        step, *finer = steps
        for start in range(months.start // step * step, months.stop, step):
            end = start + step - 1
            rows = self.count(f'{also}{field} >= "{_name(start)}" and {field} <= "{_name(end)}"')
            if rows and finer:
                inner = range(max(start, months.start), min(end + 1, months.stop))
                yield from self._counted(field, also, inner, finer)
            elif rows:
                yield _name(start)[: 4 if step == PERIODS["year"] else 7], rows

    def _scanned(self, field: str) -> Iterator[str | int | float]:
        return (row.payload[field] for row in self.list() if field in row.payload)


def _month(seconds: float) -> int:
    """The number of a time's month, counted from the year 0, in this machine's time zone."""
    day = datetime.fromtimestamp(seconds)
    return 12 * day.year + day.month - 1


def _name(month: int) -> str:
    """Such a month as filters write it. The years that filters know begin with 1 and end with 9999."""
    held = min(max(month, 12), 12 * 10_000 - 1)
    return f"{held // 12:04}-{held % 12 + 1:02}"


SHARD, FAISS = "shard", "faiss"


@dataclass(frozen=True, slots=True)
class Opened:
    """The parts of an open index. `storage` holds its lock until it is released."""

    manifest: Manifest
    store: Store
    storage: Storage


def make(place: Location, encoder: Model, root: Path | None, chosen: Design | None = None, *, bundle: str = "") -> None:
    """Create an empty index, see `VectorIndex.create`. `bundle`: where the model is, see `Manifest.bundle`."""
    wanted = chosen or design_at(place, {})
    if (wanted.store == "qdrant") != isinstance(place, Cluster):
        raise InvalidInput(
            f"the store {wanted.store} cannot keep an index at {place}; leave out the store",
            value=wanted.store,
            where=place,
        )
    manifest = Manifest(
        store=wanted.store,
        kind=wanted.kind,
        metric=wanted.metric,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        bundle=bundle,
        dim=encoder.dim,
        root=_root(place, root),
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    if isinstance(place, Cluster):
        link = Link(place)
        cluster_collection.create(link, place, manifest)
        link.close()
        return
    with creating(place, mapped=manifest.store == "qdrant-edge") as aside:
        if manifest.store == "faiss":
            FaissStore.create(aside / FAISS)
        else:
            QdrantStore.create(aside / SHARD, manifest.dim, flat=manifest.kind == "flat")
        write_manifest(aside, manifest)


def design_at(place: Location, asked: Mapping[str, str]) -> Design:
    """The kind, metric and store that are asked for, see `design`; a cluster has one store."""
    store = asked.get("store", "auto")
    return design(**{**asked, "store": "qdrant" if store == "auto" and isinstance(place, Cluster) else store})


def manifest_of(place: Location) -> Manifest:
    """The manifest of an index, without waiting for its lock; errors as of `VectorIndex.open`."""
    if isinstance(place, Path):
        return read_manifest(place)
    link = Link(place)
    try:
        return cluster_collection.read(link, place)
    finally:
        link.close()


def root_of(manifest: Manifest, place: Location) -> Path:
    """The folder that keys are relative to, as an absolute path."""
    return root_from_text(manifest.root, place if isinstance(place, Path) else Path())


def open_parts(place: Location, encoder: Model | None, lock_timeout: float) -> Opened:
    """Take the lock, where there is one, and open the rows; see `VectorIndex.open`."""
    if isinstance(place, Cluster):
        return _open_cluster(place, encoder)
    if not (place / MANIFEST).exists():
        raise not_found(place)
    read_only = is_read_only(place)
    lock = Lock(place, shared=read_only)
    lock.acquire(lock_timeout)
    storage = FolderStorage(place, lock)
    try:
        manifest = read_manifest(place)
        check_model(manifest, place, encoder)
        if read_only:
            storage = replace(storage, copy=private_copy(place))
        else:
            clear_generations(place, manifest.generation, (SHARD, FAISS))
            give_up_reserve(place)  # on a full disk, even opening the rows needs a little space
        storage = replace(storage, mapped=manifest.store == "qdrant-edge")
        opened = place if storage.copy is None else storage.copy.folder
        return Opened(manifest, _store(manifest, opened, lock_timeout), storage)
    except BaseException:
        storage.release()
        raise


def open_snapshot(place: Path) -> Opened:
    """Open a copy of an index that another process has open; see `VectorIndex.snapshot`."""
    manifest = read_manifest(place)
    copy = snapshot(place, but=rows_folder(place, manifest.generation + 1).name)
    storage = FolderStorage(place, Lock(place), mapped=manifest.store == "qdrant-edge", copy=copy)
    try:
        return Opened(manifest, _store(manifest, copy.folder, 0.0), storage)
    except BaseException:
        storage.release()
        raise


def with_precision(manifest: Manifest, storage: Storage, precision: str) -> Manifest:
    """The manifest with a precision added, written before the first row of that precision."""
    if precision in manifest.precisions:
        return manifest
    known = manifest.model_copy(update={"precisions": tuple(sorted({*manifest.precisions, precision}))})
    storage.write(known)
    return known


def _open_cluster(place: Cluster, encoder: Model | None) -> Opened:
    link = Link(place)
    try:
        manifest = cluster_collection.read(link, place)
        check_model(manifest, place, encoder)
        cluster_collection.index_fields(link)
    except BaseException:
        link.close()
        raise
    return Opened(manifest, ClusterStore(link, flat=manifest.kind == "flat"), ClusterStorage(place, link))


def _store(manifest: Manifest, place: Path, patience: float) -> Store:
    folder = rows_folder(place, manifest.generation)
    if manifest.store == "faiss":
        made = Design(manifest.kind, manifest.metric, manifest.store)
        return FaissStore(folder / FAISS, manifest.dim, made)
    return QdrantStore(folder / SHARD, manifest.dim, patience, flat=manifest.kind == "flat")


def _size(payloads: Iterable[Payload]) -> int:
    """The bytes of payloads, as they are written."""
    return len(to_json(list(payloads)))


def _root(place: Location, root: Path | None) -> str:
    if isinstance(place, Path):
        return root_to_text(place.absolute().parent if root is None else root, place)
    return root_to_text(Path() if root is None else root, None)


def check_model(manifest: Manifest, place: Location, encoder: Model | None) -> None:
    """Check that an index holds vectors of a model; WrongModel if not. None fits every index."""
    if encoder is None or (encoder.fingerprint, encoder.dim) == (manifest.fingerprint, manifest.dim):
        return
    raise WrongModel(
        f"{place} contains vectors of the model {manifest.model} (fingerprint {manifest.fingerprint}, dimension "
        f"{manifest.dim}), not of {encoder.name} ({encoder.fingerprint}, {encoder.dim}); use that model, or build "
        "another index with this one",
        value=encoder.name,
        where=place,
    )


def check_design(manifest: Manifest, place: Location, asked: Mapping[str, str]) -> None:
    """Check that an index is of the kind, metric and store that are asked for, see `design`.

    Raises:
        InvalidInput: it is not, and these are fixed when an index is created.
    """
    made = {"kind": manifest.kind, "metric": manifest.metric, "store": manifest.store}
    if design(**{**made, **asked}) != design(**made):
        raise InvalidInput(
            f"{place} is of kind {manifest.kind} and metric {manifest.metric} in {manifest.store}, which cannot be "
            "changed: leave out --kind, --metric and --store, or build another index",
            value=dict(asked),
            where=place,
            hint="leave out kind, metric and store, or build another index",
        )


_FACTS = {"dim", "metric", "kind", "store", "model", "fingerprint", "precisions"}


class VectorIndex(Lookup):
    """Rows of one model. A context manager; or call `close`.

    Safe in several threads: calls take turns, and wait while `optimize` builds. What a method has written when it
    returns survives a kill and a power cut.

    Attributes:
        place: where it is.
        folder: the same, None for a cluster.
        root: the folder that keys are relative to.
    """

    def __init__(self, parts: Opened, encoder: Model | None, quantize_above: int) -> None:
        """Not for callers: see `create` and `open`."""
        self.place = parts.storage.place
        self.folder = self.place if isinstance(self.place, Path) else None
        self.root = root_of(parts.manifest, self.place)
        self._storage, self._manifest = parts.storage, parts.manifest
        super().__init__(parts.store)
        self._encoder, self._quantize_above = encoder, quantize_above
        self._changed = False

    @classmethod
    def create(  # noqa: PLR0913  (all properties of an index)
        cls,
        place: Location | str,
        *,
        encoder: Model,
        root: Path | str | None = None,
        kind: str = "hnsw",
        metric: str = "cosine",
        store: str = "auto",
        quantize_above: int = 50_000,
    ) -> Self:
        """Create an empty index and open it. Killed before it returns, it leaves a complete index or none.

        Args:
            place: a folder that does not exist or is empty; or a cluster's URL, see `location.py`.
            encoder: the model whose vectors it will hold.
            root: the folder that keys are relative to; None: the folder that the index is in.
            kind: how rows are found: `hnsw` through a graph, `flat` by comparing with all, `ivf` in lists.
            metric: `cosine` (the same as `ip`) or `l2`; a hit's score is the cosine in any case.
            store: what keeps the rows of a folder: `qdrant-edge`, `faiss`, or `auto`: FAISS for `ivf`, else Edge.
            quantize_above: see `open`.

        Raises:
            InvalidInput: there is an index or something else already; or the store has no such kind or metric.
            MissingExtra: FAISS, or the client of a cluster, is not installed.
        """
        where, asked = parse_location(place), {"kind": kind, "metric": metric, "store": store}
        make(where, encoder, None if root is None else Path(root), design_at(where, asked))
        return cls.open(place, encoder=encoder, quantize_above=quantize_above)

    @classmethod
    def open(
        cls, place: Location | str, *, encoder: Model | None, lock_timeout: float = 10.0, quantize_above: int = 50_000
    ) -> Self:
        """Open an index; no other process can open the same folder until it is closed.

        Args:
            place: its folder, or a cluster's URL such as `qdrant://host:6333/photos`.
            encoder: the index's model; with None, rows can be searched and removed, not written.
            lock_timeout: seconds to wait for another process that has it open.
            quantize_above: rows above which `optimize` also keeps vectors as int8, from then on; scores stay exact.

        Raises:
            IndexNotFound: there is none.
            IndexInvalid: it is not one that this version reads.
            WrongModel: its vectors are another model's.
            IndexLocked: it is open already, here or elsewhere. The message names the holder.
        """
        return cls(open_parts(parse_location(place), encoder, lock_timeout), encoder, quantize_above)

    @classmethod
    def snapshot(cls, place: Path) -> Self:
        """Open a copy of an index, to read its rows while another process has it open.

        Its payloads are copied to the system's temporary folder. Rows that the other process has only just written may
        be missing.

        Args:
            place: its folder.

        Raises:
            IndexFault: it was written to meanwhile, or cannot be read; try again.
        """
        return cls(open_snapshot(place), None, 0)

    @property
    def dim(self) -> int:
        """The number of dimensions of its vectors."""
        return self._manifest.dim

    def search(
        self,
        vector: Vector,
        k: int = 10,
        *,
        where: str | None = None,
        min_score: float | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The rows nearest to a vector, best first; rows of equal score by key.

        Args:
            vector: (dim,) float32 of length 1.
            k: the most hits to return.
            where: a filter, see `filters.py`, e.g. `width >= 1024 and folder == "2023"`.
            min_score: leave out rows of a lower cosine.
            exact: compare with every row instead of searching the approximate index. Scores are exact either way.

        Raises:
            InvalidVectors: the vector is of wrong shape or dtype, not finite, or not of length 1.
            InvalidInput: k is below 1, min_score is no number, or the filter cannot be understood.
        """
        checked_limits(k, min_score)
        wanted = checked_query(vector, self._manifest.dim)
        hits = self._store.search(wanted, k, None if where is None else parse(where), exact=exact)
        return hits if min_score is None else [hit for hit in hits if hit.score >= min_score]

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write rows; one whose key is there already is replaced.

        Raises:
            InvalidVectors: a vector is of wrong shape or dtype, not finite, or not of length 1; nothing is written.
            InvalidInput: a key or payload cannot be stored, or the index was opened without a model.
        """
        if self._encoder is None:
            raise InvalidInput(
                f"{self.place} was opened without its model, so rows can be removed but not written", where=self.place
            )
        checked = checked_rows(rows, self._manifest.dim)
        if checked:
            vectors = len(checked) * checked[0].vector.nbytes
            self._storage.check_space(vectors + _size(it.payload for it in checked))
            self.computed_in(self._encoder.precision)
            self._changed = True
            self._store.upsert(checked)

    def computed_in(self, precision: str) -> None:
        """Record the precision of the rows that are written next; `upsert` records that of its encoder."""
        self._manifest = with_precision(self._manifest, self._storage, precision)

    def remove(self, keys: Sequence[str]) -> int:
        """Remove rows; returns how many of them there were."""
        self._storage.give_up_reserve()
        self._changed = True
        return self._store.remove(keys)

    def update_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Replace payloads by key; vectors stay.

        Raises:
            InvalidInput: a payload cannot be stored, or there is no such row; nothing was changed.
        """
        checked = {key: checked_payload(key, payload) for key, payload in payloads.items()}
        missing = checked.keys() - self._store.payloads(list(checked)).keys()
        if missing:
            raise InvalidInput(f"{self.place} has no row {min(missing)!r}", value=min(missing), where=self.place)
        self._storage.check_space(_size(checked.values()))
        self._store.set_payloads(checked)

    def optimize(self) -> None:
        """Build what makes searches fast, after writing. May take minutes; interrupted, it loses no row."""
        self._storage.check_writable()
        if self._changed:
            self._storage.check_space(0)
        self._store.optimize(self._quantize_above)
        self._changed = False

    def info(self) -> Info:
        """Facts about the index."""
        store, facts = self._store, self._manifest.model_dump(include=_FACTS) | {"bytes": self._storage.bytes()}
        return Info(index=str(self.place), rows=store.rows, searched=store.searched, **facts)

    def calibration(self) -> Calibration | None:
        """The thresholds that `tuwen calibrate` measured; None if it has not, or with another model."""
        return self._storage.calibration(self._manifest.fingerprint)

    def calibrate(self, calibration: Calibration) -> None:
        """Store measured thresholds, in place of earlier ones."""
        self._storage.check_writable()
        self._storage.calibrate(calibration)

    def successor(self, encoder: Model) -> "VectorIndex":
        """The rows that are to replace these: an index of another model, of the same kind, in a subfolder.

        It is empty at first. Closed and asked for again, it has the rows that were written to it; asked for with a
        third model, it is empty again.

        Raises:
            InvalidInput: this index is in a cluster.
            IndexFault: it cannot be written to.
            IndexLocked: another process writes to the successor.
        """
        if self.folder is None:
            hint = "copy it to a folder with tuwen index copy, migrate that, and copy it to a new collection"
            raise InvalidInput(f"{self.place} is in a cluster, where migrate does not work: {hint}", hint=hint)
        if is_read_only(self.folder):
            self._storage.check_writable()
        place, made = rows_folder(self.folder, self._manifest.generation + 1), self._manifest
        patience = 0.0
        try:
            return VectorIndex.open(place, encoder=encoder, lock_timeout=patience, quantize_above=self._quantize_above)
        except WrongModel:
            shutil.rmtree(place)
        except IndexNotFound:
            pass
        make(place, encoder, self.root, Design(made.kind, made.metric, made.store))
        return VectorIndex.open(place, encoder=encoder, lock_timeout=patience, quantize_above=self._quantize_above)

    def succeed(self, successor: "VectorIndex", encoder: Model, bundle: str) -> None:
        """Put the successor's rows in place of these, which are deleted. Killed at any moment, it has done so or not.

        Args:
            successor: what `successor` returned; it is closed.
            encoder: the model of its rows.
            bundle: where that model is, see `Manifest.bundle`.
        """
        assert self.folder is not None
        successor.close()
        new = successor._manifest
        changed = {name: getattr(new, name) for name in ("model", "fingerprint", "dim", "precisions")}
        generation = self._manifest.generation + 1
        manifest = self._manifest.model_copy(update={**changed, "bundle": bundle, "generation": generation})
        store = _store(manifest, self.folder, 0.0)
        self._storage.write(manifest)
        old, self._store = self._store, store
        self._encoder, self._manifest = encoder, manifest  # in this order: see `tuwen.Index.search`
        old.close()
        for name in (MANIFEST, "lock", "lock.json"):  # these make a folder an index
            (rows_folder(self.folder, generation) / name).unlink(missing_ok=True)
        clear_generations(self.folder, generation, (SHARD, FAISS))

    def migration_notes(self) -> tuple[str, ...]:
        """Remarks about another model's rows or thresholds in this index, one line each; mostly none."""
        if self.folder is None:
            return ()
        notes = []
        if (self.folder / CALIBRATION).exists() and self.calibration() is None:
            notes.append("its thresholds were measured with another model: measure them again with tuwen calibrate")
        place = rows_folder(self.folder, self._manifest.generation + 1)
        if (place / MANIFEST).exists():
            model, size = read_manifest(place).model, disk_usage(place) / 2**20
            notes.append(
                f"a migration to {model} is not finished ({size:,.0f} MiB so far): go on with tuwen index migrate, or "
                f"delete {place}"
            )
        return tuple(notes)

    def close(self) -> None:
        """Close the files and release the lock, even if the files cannot be closed. May be called twice."""
        try:
            self._store.close()
        finally:
            self._storage.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
