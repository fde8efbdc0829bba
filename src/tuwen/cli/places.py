"""The seam between commands and where an index is: opened here, or behind a service.

    Rows       what is looked at and taken out: an `Index`, or `ServedRows`
    Searched   what is searched: `Here`, or `Served`

Knows what the commands ask of each. Does not know options.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

from tuwen.errors import NotFound

if TYPE_CHECKING:
    from tuwen.client.answers import Served as Facts
    from tuwen.client.client import Client
    from tuwen.index.calibration import Calibration
    from tuwen.index.facts import Info
    from tuwen.index.index import Index
    from tuwen.index.store import Stored
    from tuwen.runtime.encoder import Encoder
    from tuwen.tasks.search import Term, Wanted
    from tuwen.tasks.threshold import Auto
    from tuwen.types import Hit, Payload


class Rows(Protocol):
    """What commands do with rows; see `Index`."""

    @property
    def root(self) -> Path: ...  # noqa: D102
    def info(self) -> "Info": ...  # noqa: D102
    def calibration(self) -> "Calibration | None": ...  # noqa: D102
    def payloads(self, keys: Sequence[str]) -> "dict[str, Payload]": ...  # noqa: D102
    def remove(self, keys: Sequence[str]) -> int: ...  # noqa: D102
    def list(self, where: str | None = None) -> "Iterator[Stored]": ...  # noqa: D102
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

    def threshold(self, terms: "Sequence[Term]") -> "Auto":
        """The score below which nothing matches these terms, as it was measured."""
        ...

    def search(self, terms: "Sequence[Term]", wanted: "Wanted") -> "list[Hit]":
        """The rows nearest to the terms, best first."""
        ...

    def to_draw(self, hits: "Sequence[Hit]") -> "AbstractContextManager[tuple[Sequence[Hit], Path]]":
        """Hits whose paths lead to their files, and the folder that they lead from."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """An index in a folder or a cluster, opened with its model."""

    encoder: "Encoder"
    rows: "Index"

    @property
    def model(self) -> str:
        """See `Searched`."""
        return self.encoder.name

    def notes(self, texts: Sequence[str]) -> Sequence[str]:
        """Scripts that the model does not know, texts that are too long for it."""
        from tuwen.tasks.notes import text_notes

        return text_notes(texts, self.encoder)

    def threshold(self, terms: "Sequence[Term]") -> "Auto":
        """See `Searched`."""
        from tuwen.tasks.threshold import auto_threshold

        return auto_threshold(terms, self.rows, self.rows.info(), self.rows.calibration())

    def search(self, terms: "Sequence[Term]", wanted: "Wanted") -> "list[Hit]":
        """See `Searched`."""
        from tuwen.tasks.search import search

        return search(terms, self.encoder, self.rows, wanted)

    @contextmanager
    def to_draw(self, hits: "Sequence[Hit]") -> "Iterator[tuple[Sequence[Hit], Path]]":
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

    def threshold(self, terms: "Sequence[Term]") -> "Auto":
        """See `Searched`."""
        from tuwen.tasks.threshold import auto_threshold

        return auto_threshold(terms, self.rows, self._facts, self._facts.calibration)

    def search(self, terms: "Sequence[Term]", wanted: "Wanted") -> "list[Hit]":
        """See `Searched`."""
        return self.client.recommend(
            [term for term in terms if term.weight > 0],
            [replace(term, weight=-term.weight) for term in terms if term.weight <= 0],
            wanted.strategy,
            wanted.k,
            wanted.min_score,
            wanted.where,
            exact=wanted.exact,
            diversity=wanted.diversity,
            unique=wanted.unique,
        )

    @contextmanager
    def to_draw(self, hits: "Sequence[Hit]") -> "Iterator[tuple[Sequence[Hit], Path]]":
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
    """The rows behind a service, by their keys, as an `Index` has them."""

    root = Path()
    """files of this machine are called as they are typed: the service's folders are its own"""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def info(self) -> "Facts":
        """Facts; `index` is the service's address."""
        return replace(self._client.info(), index=self._client.url)

    def calibration(self) -> "Calibration | None":
        """The thresholds that were measured on the service's index."""
        return self._client.info().calibration

    def get(self, ids: Sequence[str]) -> "dict[str, Stored]":
        """Id -> row, of those ids that there are."""
        found = {}
        for ident in ids:
            with suppress(NotFound):
                found[ident] = self._client.get(ident)
        return found

    def payloads(self, keys: Sequence[str]) -> "dict[str, Payload]":
        """Key -> what is stored with it, of those keys that there are."""
        ids = {key: _id(key) for key in keys}
        rows = self.get(list(ids.values()))
        return {key: rows[ident].payload for key, ident in ids.items() if ident in rows}

    def remove(self, keys: Sequence[str]) -> int:
        """Take rows out; how many of them there were."""
        return self._client.remove([_id(key) for key in keys])

    def list(self, where: str | None = None) -> "Iterator[Stored]":
        """The rows by key; with `where`, those that it keeps."""
        return self._client.list(where)

    def keys(self, where: str | None = None) -> Sequence[str]:
        """The keys of the rows; with `where`, of those that it keeps."""
        return [str(row.payload["path"]) for row in self.list(where)]


def _id(key: str) -> str:
    from tuwen.index.store import row_id

    return str(row_id(key))
