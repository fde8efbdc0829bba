"""An index: rows of vectors and facts, of one model, in a folder or in a cluster.

Knows what may enter and what can be asked. Does not know what computes vectors, nor how rows are kept.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from tuwen.errors import InvalidInput
from tuwen.index.calibration import Calibration
from tuwen.index.facts import Info, Model
from tuwen.index.filters import parse
from tuwen.index.lookup import Lookup
from tuwen.index.opening import Opened, design_at, make, open_parts, root_of, with_precision
from tuwen.index.place import Place, place_of
from tuwen.index.rows import checked_limits, checked_payload, checked_query, checked_rows
from tuwen.index.store import Vector
from tuwen.types import Hit, Payload, Row

_FACTS = {"dim", "metric", "kind", "store", "model", "fingerprint", "precisions"}


class Index(Lookup, AbstractContextManager["Index"]):
    """Rows of one model. A context manager; or call `close`.

    Safe in several threads: calls take turns, and wait while `optimize` builds. What has returned from a call that
    writes outlives a kill and a power cut. `place`: where it is; `folder`: the same, None in a cluster; `root`: the
    collection's folder, that keys are relative to.
    """

    def __init__(self, parts: Opened, encoder: Model | None, quantize_above: int) -> None:
        """Not for callers: see `create` and `open`."""
        self.place = parts.home.place
        self.folder = self.place if isinstance(self.place, Path) else None
        self.root = root_of(parts.manifest, self.place)
        self._home, self._manifest = parts.home, parts.manifest
        super().__init__(parts.store)
        self._encoder, self._quantize_above = encoder, quantize_above

    @classmethod
    def create(  # noqa: PLR0913  (what an index is, is said once, here)
        cls,
        place: Place | str,
        *,
        encoder: Model,
        root: Path | str | None = None,
        kind: str = "hnsw",
        metric: str = "cosine",
        store: str = "auto",
        quantize_above: int = 50_000,
    ) -> Self:
        """Make an empty index and open it. Killed before it returns, it leaves a whole index or none.

        Args:
            place: a folder; nothing may be there yet, or an empty folder. Or a cluster's URL, see `place.py`.
            encoder: the model whose vectors it will hold.
            root: the collection's folder, that keys are relative to; where None, the folder that the index is in.
            kind: how rows are found: `hnsw` through a graph, `flat` by comparing with all, `ivf` in lists.
            metric: `cosine` (the same as `ip`) or `l2`; a hit's score is the cosine in any case.
            store: what keeps the rows of a folder: `qdrant-edge`, `faiss`, or `auto`: FAISS for `ivf`, else Edge.
            quantize_above: see `open`.

        Raises:
            InvalidInput: there is an index already, or something else; or the store has no such kind or metric.
            MissingExtra: FAISS, or the client of a cluster, is not installed.
        """
        where, asked = place_of(place), {"kind": kind, "metric": metric, "store": store}
        make(where, encoder, None if root is None else Path(root), design_at(where, asked))
        return cls.open(place, encoder=encoder, quantize_above=quantize_above)

    @classmethod
    def open(
        cls, place: Place | str, *, encoder: Model | None, lock_timeout: float = 10.0, quantize_above: int = 50_000
    ) -> Self:
        """Open an index; nobody else can open a folder until it is closed.

        Args:
            place: its folder, or a cluster's URL such as `qdrant://host:6333/photos`.
            encoder: the model to search and write with. With None, rows can be searched and removed, not written.
            lock_timeout: seconds to wait for another process that has it open.
            quantize_above: with more rows, `optimize` keeps vectors as int8 too, for good; scores stay exact.

        Raises:
            IndexNotFound: there is none.
            IndexInvalid: it is not one that this version reads.
            WrongModel: its vectors are another model's. The message has both names.
            IndexLocked: it is open already, here or elsewhere. The message names the holder.
        """
        return cls(open_parts(place_of(place), encoder, lock_timeout), encoder, quantize_above)

    def search(
        self,
        vector: Vector,
        k: int = 10,
        min_score: float | None = None,
        where: str | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The rows nearest to a vector, best first; of equal scores by key.

        Args:
            vector: (dim,) float32 of length 1.
            k: how many at most.
            min_score: rows of a lower cosine are left out; there may be none left.
            where: a filter, see `filters.py`, e.g. `width >= 1024 and folder == "2023"`.
            exact: compare with every row instead of walking the graph. Scores are exact either way.

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
            raise InvalidInput(f"{self.place} was opened without its model: rows can be removed, not written")
        checked = checked_rows(rows, self._manifest.dim)
        if checked:
            self._home.check_room()
            self.computed_in(self._encoder.precision)
            self._store.upsert(checked)

    def computed_in(self, precision: str) -> None:
        """Note what rows that are written next are computed in; `upsert` notes its encoder's precision itself."""
        self._manifest = with_precision(self._manifest, self._home, precision)

    def remove(self, keys: Sequence[str]) -> int:
        """Take rows out; how many of them there were."""
        return self._store.remove(keys)

    def update_payloads(self, payloads: Mapping[str, Payload]) -> None:
        """Key -> another payload; vectors stay. InvalidInput, and no change, where one is wrong or has no row."""
        self._home.check_room()
        checked = {key: checked_payload(key, payload) for key, payload in payloads.items()}
        missing = checked.keys() - self._store.payloads(list(checked)).keys()
        if missing:
            raise InvalidInput(f"{self.place} has no row {min(missing)!r}: it cannot be given a payload")
        self._store.set_payloads(checked)

    def optimize(self) -> None:
        """Make later searches fast, after writing. May take minutes; ended at any moment, it loses no row."""
        self._store.optimize(self._quantize_above)

    def info(self) -> Info:
        """Facts about the index."""
        store, facts = self._store, self._manifest.model_dump(include=_FACTS) | {"bytes": self._home.bytes()}
        return Info(index=str(self.place), rows=store.rows, searched=store.searched, **facts)

    def calibration(self) -> Calibration | None:
        """The thresholds that `tuwen calibrate` has measured; None if it has not, or with another model."""
        return self._home.calibration(self._manifest.fingerprint)

    def calibrate(self, calibration: Calibration) -> None:
        """Keep thresholds that were measured, in place of those that are there."""
        self._home.calibrate(calibration)

    def close(self) -> None:
        """Let go of the index. May be called twice."""
        self._store.close()
        self._home.release()

    def __exit__(self, *_: object) -> None:
        self.close()
