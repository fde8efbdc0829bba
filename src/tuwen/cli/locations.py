"""A common interface for commands to indexes on this machine and indexes behind a service.

Rows       list and remove rows: a `VectorIndex`, or `ServedRows`
Searched   search: `Here`, or `Served`
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
from tuwen.bundle.catalogue import find_known
from tuwen.cli.command import say
from tuwen.cli.options import Address, Computing
from tuwen.demo import PHOTO
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
from tuwen.settings import RECOMMENDED_MODEL, read_settings
from tuwen.types import Hit, Payload

if TYPE_CHECKING:
    from tuwen.client.client import Client  # these import httpx2, which only --url needs
    from tuwen.client.documents import ServedInfo as Facts


class Rows(Protocol):
    """The rows of an index; see `VectorIndex`."""

    @property
    def root(self) -> Path: ...  # noqa: D102
    def info(self) -> Info: ...  # noqa: D102
    def calibration(self) -> Calibration | None: ...  # noqa: D102
    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]: ...  # noqa: D102
    def remove(self, keys: Sequence[str]) -> int: ...  # noqa: D102
    def list(self, where: str | None = None, sort: str = "path") -> Iterator[Stored]: ...  # noqa: D102
    def keys(self, where: str | None = None, sort: str = "path") -> Sequence[str]: ...  # noqa: D102
    def facets(self, by: str, where: str | None = None) -> dict[str, int]: ...  # noqa: D102


class Searched(Protocol):
    """An index that can be searched.

    Attributes:
        rows: its rows.
        model: the name of the model that it is searched with.
    """

    @property
    def rows(self) -> Rows: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102

    def notes(self, texts: Sequence[str]) -> Sequence[str]:
        """Warnings about the texts of a search."""
        ...

    def threshold(self, terms: Sequence[Term]) -> Auto:
        """The measured score below which nothing matches these terms."""
        ...

    def search(self, terms: Sequence[Term], wanted: Wanted) -> list[Hit]:
        """The rows nearest to the terms, best first."""
        ...

    def to_draw(self, hits: Sequence[Hit]) -> AbstractContextManager[tuple[Sequence[Hit], Path]]:
        """Hits whose files are available on this machine, and the folder that their paths are relative to."""
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
        """Warnings about scripts that the model does not know and texts that are too long for it."""
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
    """An index behind a service; its facts are requested once."""

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
        """A service returns no warnings."""
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
        """Download the files for the duration of the block; files that have been removed are left out."""
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
    """The rows of an index behind a service, with the interface of a `VectorIndex`."""

    root = Path()
    """paths are used as typed, because the service's folders are not on this machine"""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def info(self) -> "Facts":
        """Facts; `index` is the service's address."""
        return self._client.info()

    def calibration(self) -> Calibration | None:
        """The thresholds that were measured on the service's index."""
        return self._client.info().calibration

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Rows by id; unknown ids are left out."""
        return self._client.get(ids)

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Payloads by key; unknown keys are left out."""
        return self._client.payloads(keys)

    def remove(self, keys: Sequence[str]) -> int:
        """Remove rows and return how many there were."""
        return self._client.remove(keys)

    def list(self, where: str | None = None, sort: str = "path") -> Iterator[Stored]:
        """The rows in the order of their keys, optionally filtered."""
        return self._client.list(where, sort)

    def keys(self, where: str | None = None, sort: str = "path") -> Sequence[str]:
        """The keys of the rows, optionally filtered."""
        return self._client.keys(where, sort)

    def facets(self, by: str, where: str | None = None) -> dict[str, int]:
        """How many rows there are of each value."""
        return self._client.facets(by, where)


@contextmanager
def opened(folder: Place, computing: Computing) -> Iterator[tuple[Encoder, Index]]:
    """Open an index and its model.

    Raises:
        IndexNotFound: there is no index in `folder`.
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
    """Open the index of the images below `root`, or create it; see `Index.open_or_create`.

    Args:
        folder: the index.
        root: the collection's root.
        computing: the model and how to run it.
        asked: kind, metric and store, see `design`; those left out may be anything.
        anywhere: accept an existing index with another root.
    """
    with Index.open_or_create(
        folder, root, computing.model, design=asked, same_root=not anywhere, load=computing.load
    ) as index:
        encoder = index.encoder
        if computing.model is None and computing.settings.default_model is None and not index.info().rows:
            _say_default(encoder)
        yield encoder, index


def _say_default(encoder: Encoder) -> None:
    """Say that the packaged model was chosen, and how to get a better one."""
    better = find_known(RECOMMENDED_MODEL)
    if PHOTO not in encoder.names or better is None:
        return
    size = f"{4 * (better.params or 0) / 1000:.1f} GB, licence {better.licence}"
    say(f"no model was named: {PHOTO} is used, the packaged model, which knows things rather than whole sentences")
    say(
        f"tuwen pull {better.name} gets a model that understands sentences in about 100 languages ({size}); "
        "tuwen index migrate brings an index to it"
    )


@contextmanager
def opened_alone(place: Place | Address) -> Iterator[Rows]:
    """Open an index without its model, or a service's, to list or remove rows."""
    if isinstance(place, Address):
        with place.client() as client:
            yield ServedRows(client)
        return
    with VectorIndex.open(place, encoder=None, lock_timeout=read_settings().lock_timeout) as index:
        yield index


@contextmanager
def opened_to_search(place: Place | Address, computing: Computing) -> Iterator[Searched]:
    """Open an index with its model, or a service, to search it; errors as in `opened`."""
    if isinstance(place, Address):
        with place.client() as client:
            yield Served(client)
        return
    with opened(place, computing) as (encoder, index):
        yield Here(encoder, index)
