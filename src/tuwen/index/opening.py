"""An index, made or opened: where it lives, the rows, the model that must fit.

    photos.tuwen/
      index.json           what it is: model, fingerprint, root, see `manifest.py`
      shard/               the rows, see `qdrant.py`; or
      faiss/               the rows and a file that finds them, see `faiss.py`
      lock, lock.json      who holds it, see `lock.py`

    qdrant://host:6333/photos      a collection, see `cluster.py`

Knows where each part stands and in what order they are opened. Does not know what is done with rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuwen.errors import InvalidInput, WrongModel
from tuwen.index import cluster_collection
from tuwen.index.cluster import ClusterStore
from tuwen.index.cluster_link import Link
from tuwen.index.facts import Model
from tuwen.index.faiss import FaissStore
from tuwen.index.folder import creating
from tuwen.index.home import ClusterHome, FolderHome, Home
from tuwen.index.kinds import Design, design
from tuwen.index.lock import Lock
from tuwen.index.manifest import Manifest, read_manifest, root_from_text, root_to_text, write_manifest
from tuwen.index.place import Cluster, Place
from tuwen.index.qdrant import QdrantStore
from tuwen.index.store import Store

SHARD, FAISS = "shard", "faiss"


@dataclass(frozen=True, slots=True)
class Opened:
    """An index's parts. `home` is held until it is released."""

    manifest: Manifest
    store: Store
    home: Home


def make(
    place: Place, encoder: Model, root: Path | None, chosen: Design | None = None, *, bundle: str = ""
) -> None:
    """Make an empty index, see `Index.create`. `bundle`: where the model is, see `Manifest.bundle`."""
    wanted = chosen or design_at(place, {})
    if (wanted.store == "qdrant") != isinstance(place, Cluster):
        raise InvalidInput(f"{place} is not where the store {wanted.store} keeps an index: leave out the store")
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
    with creating(place) as aside:
        if manifest.store == "faiss":
            FaissStore.create(aside / FAISS)
        else:
            QdrantStore.create(aside / SHARD, manifest.dim, flat=manifest.kind == "flat")
        write_manifest(aside, manifest)


def design_at(place: Place, asked: Mapping[str, str]) -> Design:
    """What is asked for of kind, metric and store, see `design`; in a cluster there is one store."""
    store = asked.get("store", "auto")
    return design(**{**asked, "store": "qdrant" if store == "auto" and isinstance(place, Cluster) else store})


def manifest_of(place: Place) -> Manifest:
    """What an index is, without waiting for its lock; errors as of `Index.open`."""
    if isinstance(place, Path):
        return read_manifest(place)
    link = Link(place)
    try:
        return cluster_collection.read(link, place)
    finally:
        link.close()


def root_of(manifest: Manifest, place: Place) -> Path:
    """The collection's folder, as an absolute path. A cluster is nowhere near it: there it is stored as one."""
    return root_from_text(manifest.root, place if isinstance(place, Path) else Path())


def open_parts(place: Place, encoder: Model | None, lock_timeout: float) -> Opened:
    """Take the lock, where there is one, and open the rows, see `Index.open`."""
    if isinstance(place, Cluster):
        return _open_cluster(place, encoder)
    _check_model(read_manifest(place), place, encoder)  # before anybody waits
    lock = Lock(place)
    lock.acquire(lock_timeout)
    try:
        manifest = read_manifest(place)
        _check_model(manifest, place, encoder)
        return Opened(manifest, _store(manifest, place, lock_timeout), FolderHome(place, lock))
    except BaseException:
        lock.release()
        raise


def with_precision(manifest: Manifest, home: Home, precision: str) -> Manifest:
    """A manifest that has what rows are computed in, written before the first of them is."""
    if precision in manifest.precisions:
        return manifest
    known = manifest.model_copy(update={"precisions": tuple(sorted({*manifest.precisions, precision}))})
    home.write(known)
    return known


def _open_cluster(place: Cluster, encoder: Model | None) -> Opened:
    link = Link(place)
    try:
        manifest = cluster_collection.read(link, place)
        _check_model(manifest, place, encoder)
    except BaseException:
        link.close()
        raise
    return Opened(manifest, ClusterStore(link, flat=manifest.kind == "flat"), ClusterHome(place, link))


def _store(manifest: Manifest, folder: Path, patience: float) -> Store:
    if manifest.store == "faiss":
        made = Design(manifest.kind, manifest.metric, manifest.store)
        return FaissStore(folder / FAISS, manifest.dim, made)
    return QdrantStore(folder / SHARD, manifest.dim, patience, flat=manifest.kind == "flat")


def _root(place: Place, root: Path | None) -> str:
    if isinstance(place, Path):
        return root_to_text(place.absolute().parent if root is None else root, place)
    return root_to_text(Path() if root is None else root, None)


def _check_model(manifest: Manifest, place: Place, encoder: Model | None) -> None:
    if encoder is None or (encoder.fingerprint, encoder.dim) == (manifest.fingerprint, manifest.dim):
        return
    raise WrongModel(
        f"{place} holds vectors of the model {manifest.model} (fingerprint {manifest.fingerprint}, {manifest.dim} "
        f"numbers each), not of {encoder.name} ({encoder.fingerprint}, {encoder.dim}): use that model, or build "
        "another index with this one"
    )
