"""The seam between commands and where an index is: opened here, or behind a service.

    Rows       what is looked at and taken out: an `VectorIndex`, or `ServedRows`
    Searched   what is searched: `Here`, or `Served`

Knows what the commands ask of each. Does not know options.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from tuwen.api import Encoder, Index
from tuwen.cli.options import Address, Computing
from tuwen.errors import NotFound
from tuwen.index.calibration import Calibration
from tuwen.index.index import VectorIndex
from tuwen.index.location import Place
from tuwen.index.manifest import Info
from tuwen.index.store import Stored
from tuwen.runtime.languages import text_notes
from tuwen.search.query import Query
from tuwen.search.search import Term, Wanted, search
from tuwen.search.threshold import Auto, auto_threshold
from tuwen.settings import read_settings
from tuwen.types import Hit, Payload

if TYPE_CHECKING:
    from tuwen.client.client import Client  # these import httpx2, which only --url needs
    from tuwen.client.documents import ServedInfo as Facts


class Rows(Protocol):
    """What commands do with rows; see `VectorIndex`."""

    @property
    def root(self) -> Path: ...  # noqa: D102
    def info(self) -> Info: ...  # noqa: D102
    def calibration(self) -> Calibration | None: ...  # noqa: D102
    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]: ...  # noqa: D102
    def remove(self, keys: Sequence[str]) -> int: ...  # noqa: D102
    def list(self, where: str | None = None) -> Iterator[Stored]: ...  # noqa: D102
    def keys(self, where: str | None = None) -> Sequence[str]: ...  # noqa: D102


class Searched(Protocol):
    """An index that can be searched.

    Attributes:
        rows: what is in it.
        model: the name of what it is searched with.
    """

    @property
    def rows(self) -> Rows: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102

    def notes(self, texts: Sequence[str]) -> Sequence[str]:
        """What a person should know about the texts of a search."""
        ...

    def threshold(self, terms: Sequence[Term]) -> Auto:
        """The score below which nothing matches these terms, as it was measured."""
        ...

    def search(self, terms: Sequence[Term], wanted: Wanted) -> list[Hit]:
        """The rows nearest to the terms, best first."""
        ...

    def to_draw(self, hits: Sequence[Hit]) -> AbstractContextManager[tuple[Sequence[Hit], Path]]:
        """Hits whose paths lead to their files, and the folder that they lead from."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """An index in a folder or a cluster, opened with its model."""

    encoder: Encoder
    rows: VectorIndex

    @property
    def model(self) -> str:
        """See `Searched`."""
        return self.encoder.name

    def notes(self, texts: Sequence[str]) -> Sequence[str]:
        """Scripts that the model does not know, texts that are too long for it."""
        return text_notes(texts, self.encoder)

    def threshold(self, terms: Sequence[Term]) -> Auto:
        """See `Searched`."""
        return auto_threshold(terms, self.rows, self.rows.info(), self.rows.calibration())

    def search(self, terms: Sequence[Term], wanted: Wanted) -> list[Hit]:
        """See `Searched`."""
        return search(terms, self.encoder, self.rows, wanted)

    @contextmanager
    def to_draw(self, hits: Sequence[Hit]) -> Iterator[tuple[Sequence[Hit], Path]]:
        """See `Searched`."""
        yield hits, self.rows.root


@dataclass(frozen=True)
class Served:
    """An index behind a service, which is asked for its facts once."""

    client: "Client"

    @property
    def rows(self) -> "ServedRows":
        """See `Searched`."""
        return ServedRows(self.client)

    @property
    def model(self) -> str:
        """See `Searched`."""
        return self._facts.model

    def notes(self, texts: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """None: a service answers, and says no more."""
        return ()

    def threshold(self, terms: Sequence[Term]) -> Auto:
        """See `Searched`."""
        return auto_threshold(terms, self.rows, self._facts, self._facts.calibration)

    def search(self, terms: Sequence[Term], wanted: Wanted) -> list[Hit]:
        """See `Searched`."""
        query = Query(
            like=[(term.what, term.weight) for term in terms if term.weight > 0],
            unlike=[(term.what, -term.weight) for term in terms if term.weight <= 0],
            strategy=wanted.strategy,
        )
        return self.client.search(
            query,
            wanted.k,
            where=wanted.where,
            min_score=wanted.min_score,
            exact=wanted.exact,
            diversity=wanted.diversity,
            unique=wanted.unique,
        )

    @contextmanager
    def to_draw(self, hits: Sequence[Hit]) -> Iterator[tuple[Sequence[Hit], Path]]:
        """The files are fetched, for as long as they are needed; one that is gone by now is left out."""
        with TemporaryDirectory() as folder:
            fetched = []
            for number, hit in enumerate(hits):
                with suppress(NotFound):
                    (Path(folder) / f"{number}").write_bytes(self.client.picture(hit))
                fetched.append(replace(hit, payload={**hit.payload, "path": f"{number}"}))
            yield fetched, Path(folder)

    @cached_property
    def _facts(self) -> "Facts":
        return self.rows.info()


class ServedRows:
    """The rows behind a service, by their keys, as an `VectorIndex` has them."""

    root = Path()
    """files of this machine are called as they are typed: the service's folders are its own"""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def info(self) -> "Facts":
        """Facts; `index` is the service's address."""
        return self._client.info()

    def calibration(self) -> Calibration | None:
        """The thresholds that were measured on the service's index."""
        return self._client.info().calibration

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Id -> row, of those ids that there are."""
        return self._client.get(ids)

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Key -> what is stored with it, of those keys that there are."""
        return self._client.payloads(keys)

    def remove(self, keys: Sequence[str]) -> int:
        """Take rows out; how many of them there were."""
        return self._client.remove(keys)

    def list(self, where: str | None = None) -> Iterator[Stored]:
        """The rows by key; with `where`, those that it keeps."""
        return self._client.list(where)

    def keys(self, where: str | None = None) -> Sequence[str]:
        """The keys of the rows; with `where`, of those that it keeps."""
        return self._client.keys(where)


@contextmanager
def opened(folder: Place, computing: Computing) -> Iterator[tuple[Encoder, Index]]:
    """The index in `folder`, and its model.

    Raises:
        IndexNotFound: there is none.
        BundleNotFound: its model is not on this machine.
        WrongModel: `--model` names another model than the index's.
    """
    with Index.open(folder, computing.model, load=computing.load) as index:
        yield index.encoder, index


@contextmanager
def opened_or_new(
    folder: Place,
    root: Path,
    computing: Computing,
    asked: Mapping[str, str] = MappingProxyType({}),
    *,
    anywhere: bool = False,
) -> Iterator[tuple[Encoder, Index]]:
    """The index of the images below `root`, created if there is none; see `Index.open_or_create`.

    Args:
        folder: the index.
        root: the collection.
        computing: the model.
        asked: its kind, metric and store, see `design`; what is left out may be anything.
        anywhere: accept an index of another root; a new one has this root.
    """
    with Index.open_or_create(
        folder, root, computing.model, design=asked, same_root=not anywhere, load=computing.load
    ) as index:
        yield index.encoder, index


@contextmanager
def opened_alone(place: Place | Address) -> Iterator[Rows]:
    """The index in a folder without its model, or a service's: enough to look at rows and to take some out."""
    if isinstance(place, Address):
        with place.client() as client:
            yield ServedRows(client)
        return
    with VectorIndex.open(place, encoder=None, lock_timeout=read_settings().lock_timeout) as index:
        yield index


@contextmanager
def opened_to_search(place: Place | Address, computing: Computing) -> Iterator[Searched]:
    """The index in a folder with its model, or a service; errors as `opened`."""
    if isinstance(place, Address):
        with place.client() as client:
            yield Served(client)
        return
    with opened(place, computing) as (encoder, index):
        yield Here(encoder, index)
