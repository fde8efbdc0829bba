"""Queries whose answer is known -> scores -> the score from which a hit means something.

    probes --measure--> scores --thresholds--> one threshold a kind of query

The cosine of a text with a picture that it describes, and that of two pictures that are alike, live on different
scales, and each model has its own: there is no threshold that holds for all of them.

Knows what a threshold is worth. Does not know where queries come from, nor where a threshold is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuwen.errors import InvalidInput
from tuwen.index.calibration import QUERY_KINDS, QueryKind, Threshold
from tuwen.tasks.probes import Probe
from tuwen.tasks.query import term_vectors
from tuwen.tasks.terms import RowId, Term

if TYPE_CHECKING:
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder

Scores = NDArray[np.float64]

FEWEST = 5
"""scores below which nothing is said about a kind of query"""
ALLOWED = 0.05
"""the rate of errors that a threshold is set to where only one of the two kinds of error can be measured"""
_COPIES = 64
"""how many copies of a picture its search for another one looks past"""


@dataclass(frozen=True, slots=True)
class Score:
    """What one query scored: its best match where there is one, else its best hit, which is none."""

    kind: QueryKind
    value: float
    matches: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """The scores of one kind of query, sorted: of those with a match, and of those without."""

    matching: Scores
    unmatching: Scores

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.matching) + len(self.unmatching)


def measure(probes: Sequence[Probe], encoder: "Encoder", index: "Index") -> Iterator[Score | None]:
    """One score for each query, in order; None where there is nothing to compare with.

    - A query with right rows scores its highest cosine with one of them.
    - A query that nothing matches scores its highest cosine with any row: what it would find.
    - A row scores its highest cosine with a row of other content: how near the collection's pictures are to
      each other.

    Raises:
        RejectedImages: a query's picture cannot be read.
        InvalidInput: a query is empty.
    """
    for probe in probes:
        vector = term_vectors([Term(probe.what)], encoder, index)[0]
        value = _value(probe, vector, index)
        yield None if value is None else Score(probe.kind, value, probe.matches)


def samples(scores: Sequence[Score]) -> dict[QueryKind, Samples]:
    """The scores of each kind of query that there is."""
    found = {}
    for kind in QUERY_KINDS:
        matching = [score.value for score in scores if score.kind == kind and score.matches]
        unmatching = [score.value for score in scores if score.kind == kind and not score.matches]
        if matching or unmatching:
            found[kind] = Samples(np.sort(np.array(matching, float)), np.sort(np.array(unmatching, float)))
    return found


def thresholds(measured: Mapping[QueryKind, Samples], rows: int) -> dict[QueryKind, Threshold]:
    """A threshold for each kind of query that there is enough of, see `choose`, with the rates of errors to expect.

    A rate is of queries that were left out when the threshold was chosen that they are judged by, each in its turn
    (leave-one-out), so that it is not flattered by them.

    Args:
        measured: see `samples`.
        rows: how many the index has.

    Raises:
        InvalidInput: there are fewer than five queries of every kind, or none had anything to find.
    """
    if not measured:
        raise InvalidInput("there is nothing to measure: the index has no rows")
    found = {kind: _threshold(it, rows) for kind, it in measured.items() if it.count >= FEWEST}
    if not found:
        said = ", ".join(f"{it.count} of the kind {kind}" for kind, it in measured.items())
        raise InvalidInput(
            f"{said}: so few queries say nothing about a threshold; give {FEWEST} or more, better 50, or let "
            "--random add some"
        )
    return found


def choose(matching: Scores, unmatching: Scores) -> float:
    """The threshold with the fewest errors.

    With both kinds of scores it is the one of the lowest sum of the two rates of errors; of equally good ones, the
    middle of the widest gap. With one kind alone, the one that 5 % of them are on the wrong side of.

    Args:
        matching: (n,) sorted; scores below the threshold are false rejects.
        unmatching: (m,) sorted; scores not below it are false accepts.
    """
    if not len(matching):
        return float(np.quantile(unmatching, 1 - ALLOWED))
    if not len(unmatching):
        return float(np.quantile(matching, ALLOWED))
    values = np.unique(np.concatenate([matching, unmatching]))
    edges = np.concatenate([[values[0] - 0.01], values, [values[-1] + 0.01]])
    cuts = (edges[:-1] + edges[1:]) / 2
    rejected = np.searchsorted(matching, cuts) / len(matching)
    accepted = 1 - np.searchsorted(unmatching, cuts) / len(unmatching)
    errors = rejected + accepted
    best = np.flatnonzero(errors <= errors.min() + 1e-12)
    return float(cuts[best[np.argmax(np.diff(edges)[best])]])


def _value(probe: Probe, vector: NDArray[np.float32], index: "Index") -> float | None:
    if probe.right:
        return float(max(vector @ right for right in index.vectors(probe.right).values()))
    if not isinstance(probe.what, RowId):
        return next((hit.score for hit in index.search(vector, k=1)), None)
    row = probe.what.id
    content = index.get([row])[row].payload.get("content", row)
    hits = index.search(vector, k=_COPIES)
    return next((hit.score for hit in hits if hit.id != row and hit.payload.get("content") != content), None)


def _threshold(measured: Samples, rows: int) -> Threshold:
    matching, unmatching = measured.matching, measured.unmatching
    return Threshold(
        threshold=choose(matching, unmatching),
        false_accept=_rate(
            [unmatching[i] >= choose(matching, np.delete(unmatching, i)) for i in _others(unmatching)]
        ),
        false_reject=_rate([matching[i] < choose(np.delete(matching, i), unmatching) for i in _others(matching)]),
        matching=len(matching),
        unmatching=len(unmatching),
        rows=rows,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _others(scores: Scores) -> range:
    """The places of scores that can be left out: not of a single one, without which there would be no rate."""
    return range(len(scores) if len(scores) > 1 else 0)


def _rate(wrong: Sequence[bool]) -> float | None:
    return round(sum(map(bool, wrong)) / len(wrong), 4) if wrong else None
