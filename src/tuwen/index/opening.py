"""An index's folder, made or opened: the files, the lock, the model that must fit.

    photos.tuwen/
      index.json           what it is: model, fingerprint, root, see `manifest.py`
      shard/               the rows, see `qdrant.py`; or
      faiss/               the rows and a file that finds them, see `faiss.py`
      lock, lock.json      who holds it, see `lock.py`

Knows where each part stands and in what order they are opened. Does not know what is done with rows.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuwen.errors import WrongModel
from tuwen.index.facts import Model
from tuwen.index.faiss import FaissStore
from tuwen.index.folder import creating
from tuwen.index.kinds import Design
from tuwen.index.lock import Lock
from tuwen.index.manifest import Manifest, read_manifest, root_to_text, write_manifest
from tuwen.index.qdrant import QdrantStore
from tuwen.index.store import Store

SHARD, FAISS = "shard", "faiss"


@dataclass(frozen=True, slots=True)
class Opened:
    """An index's parts, while this process holds its lock."""

    manifest: Manifest
    store: Store
    lock: Lock


def make(
    folder: Path, encoder: Model, root: Path | None, design: Design | None = None, *, bundle: str = ""
) -> None:
    """Make an empty index, see `Index.create`. `bundle`: where the model is, see `Manifest.bundle`."""
    chosen = design or Design()
    manifest = Manifest(
        store=chosen.store,
        kind=chosen.kind,
        metric=chosen.metric,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        bundle=bundle,
        dim=encoder.dim,
        root=root_to_text(folder.absolute().parent if root is None else root, folder),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with creating(folder) as aside:
        if chosen.store == "faiss":
            FaissStore.create(aside / FAISS)
        else:
            QdrantStore.create(aside / SHARD, manifest.dim, flat=chosen.kind == "flat")
        write_manifest(aside, manifest)


def open_parts(folder: Path, encoder: Model | None, lock_timeout: float) -> Opened:
    """Take the lock and open the rows, see `Index.open`."""
    _check_model(read_manifest(folder), folder, encoder)  # before anybody waits
    lock = Lock(folder)
    lock.acquire(lock_timeout)
    try:
        manifest = read_manifest(folder)
        _check_model(manifest, folder, encoder)
        return Opened(manifest, _store(manifest, folder, lock_timeout), lock)
    except BaseException:
        lock.release()
        raise


def with_precision(manifest: Manifest, folder: Path, precision: str) -> Manifest:
    """A manifest that has what rows are computed in, written before the first of them is."""
    if precision in manifest.precisions:
        return manifest
    known = manifest.model_copy(update={"precisions": tuple(sorted({*manifest.precisions, precision}))})
    write_manifest(folder, known)
    return known


def _store(manifest: Manifest, folder: Path, patience: float) -> Store:
    if manifest.store == "faiss":
        design = Design(manifest.kind, manifest.metric, manifest.store)
        return FaissStore(folder / FAISS, manifest.dim, design)
    return QdrantStore(folder / SHARD, manifest.dim, patience, flat=manifest.kind == "flat")


def _check_model(manifest: Manifest, folder: Path, encoder: Model | None) -> None:
    if encoder is None or (encoder.fingerprint, encoder.dim) == (manifest.fingerprint, manifest.dim):
        return
    raise WrongModel(
        f"{folder} holds vectors of the model {manifest.model} (fingerprint {manifest.fingerprint}, {manifest.dim} "
        f"numbers each), not of {encoder.name} ({encoder.fingerprint}, {encoder.dim}): use that model, or build "
        "another index with this one"
    )
