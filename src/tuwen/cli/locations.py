"""Opens what commands work on: an index on this machine or in a cluster, or one behind a service."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from tuwen.api import Encoder, Index
from tuwen.bundle.catalogue import find_known
from tuwen.cli.command import say
from tuwen.cli.options import Address, Computing
from tuwen.demo import PHOTO
from tuwen.errors import NotFound
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.runtime.languages import text_notes
from tuwen.search.query import Query
from tuwen.search.search import Term, Wanted
from tuwen.search.threshold import Auto, auto_threshold
from tuwen.settings import RECOMMENDED_MODEL, read_settings
from tuwen.types import Hit

if TYPE_CHECKING:
    from tuwen.client.client import Client  # these import httpx2, which only --url needs
    from tuwen.client.documents import ServedInfo
    from tuwen.index.manifest import Info


@dataclass(frozen=True)
class Searched:
    """An index that can be searched, on this machine or behind a service.

    Attributes:
        rows: the index.
        encoder: its model; None: a service's, which has it.
    """

    rows: "Index | Client"
    encoder: Encoder | None

    @property
    def model(self) -> str:
        """The name of the model that it is searched with."""
        return self._info.model

    def notes(self, texts: Sequence[str]) -> Sequence[str]:
        """Warnings about scripts that the model does not know and texts that are too long; a service gives none."""
        return () if self.encoder is None else text_notes(texts, self.encoder)

    def threshold(self, terms: Sequence[Term]) -> Auto:
        """The measured score below which nothing matches these terms."""
        measured = (
            self.rows.calibration() if isinstance(self.rows, Index) else cast("ServedInfo", self._info).calibration
        )
        return auto_threshold(terms, self.rows, self._info, measured)

    def search(self, terms: Sequence[Term], wanted: Wanted, sort: str | None) -> list[Hit]:
        """The rows nearest to the terms, best first or sorted."""
        query = Query(
            like=[(term.what, term.weight) for term in terms if term.weight > 0],
            unlike=[(term.what, -term.weight) for term in terms if term.weight <= 0],
            strategy=wanted.strategy,
        )
        return self.rows.search(
            query,
            wanted.k,
            where=wanted.where,
            min_score=wanted.min_score,
            exact=wanted.exact,
            diversity=wanted.diversity,
            unique=wanted.unique,
            sort=sort,
        )

    @cached_property
    def _info(self) -> "Info | ServedInfo":
        return self.rows.info()

    @contextmanager
    def to_draw(self, hits: Sequence[Hit]) -> Iterator[tuple[Sequence[Hit], Path]]:
        """Hits whose files are on this machine, and the folder that their paths are relative to.

        The files of a service are downloaded for the duration of the block; those that are gone are left out.
        """
        if isinstance(self.rows, Index):
            yield hits, self.rows.root
            return
        with TemporaryDirectory() as folder:
            fetched = []
            for number, hit in enumerate(hits):
                with suppress(NotFound):
                    (Path(folder) / f"{number}").write_bytes(self.rows.picture(hit))
                fetched.append(replace(hit, payload={**hit.payload, "path": f"{number}"}))
            yield fetched, Path(folder)


@contextmanager
def opened(folder: Location, computing: Computing) -> Iterator[tuple[Encoder, Index]]:
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
    folder: Location,
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
def opened_alone(place: Location | Address) -> "Iterator[VectorIndex | Client]":
    """Open an index without its model, or a service's, to list or remove rows."""
    if isinstance(place, Address):
        with place.client() as client:
            yield client
        return
    with VectorIndex.open(place, encoder=None, lock_timeout=read_settings().lock_timeout) as index:
        yield index


@contextmanager
def opened_to_search(place: Location | Address, computing: Computing) -> Iterator[Searched]:
    """Open an index with its model, or a service, to search it; errors as in `opened`."""
    if isinstance(place, Address):
        with place.client() as client:
            yield Searched(client, None)
        return
    with opened(place, computing) as (encoder, index):
        yield Searched(index, encoder)
