"""What an index asks of a model, and what it says of itself. Values only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Model(Protocol):
    """What an index must know of the model whose vectors it keeps. An `Encoder` is one.

    Attributes:
        name: what people call it.
        dim: the length of a vector.
        fingerprint: two models of the same one make the same vectors.
        precision: what it computes pictures' vectors in, e.g. `fp32`, `int8`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that is known by its facts alone, which is enough to copy its vectors. See `Model`."""

    name: str
    dim: int
    fingerprint: str
    precision: str


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about an index.

    Attributes:
        index: its folder, or a cluster's URL.
        rows: how many there are.
        dim: the length of a vector.
        metric: `cosine` or `l2`: how vectors are compared; scores are cosines in any case.
        kind: `hnsw`: through a graph, once there are rows enough; `flat`: compared one by one; `ivf`: in lists.
        searched: the kind that it is searched as for now: an `ivf` of too few rows is `flat`.
        store: what keeps the rows: `qdrant-edge`, `faiss`, or `qdrant`, which is a cluster.
        model: whose vectors these are.
        fingerprint: what identifies that model.
        bytes: what the folder takes on the disk; None for a cluster, which does not tell.
        precisions: what the model computed in, of all rows that were ever written.
    """

    index: str
    rows: int
    dim: int
    metric: str
    kind: str
    searched: str
    store: str
    model: str
    fingerprint: str
    bytes: int | None
    precisions: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about these rows, one line each; mostly nothing."""
        return precision_notes(self.index, self.precisions) + kind_notes(self)


def precision_notes(index: str, precisions: Sequence[str]) -> tuple[str, ...]:
    """A line if rows computed in int8 stand beside others; other precisions differ by nothing that matters."""
    others = [precision for precision in precisions if precision != "int8"]
    if not others or len(others) == len(precisions):
        return ()
    return (
        f"{index} has rows computed in int8 and in {', '.join(others)}: the same picture scores a little "
        "differently; build it again in one --precision",
    )


def kind_notes(info: Info) -> tuple[str, ...]:
    """A line if an `ivf` index is searched as `flat`."""
    if info.kind != "ivf" or info.searched == "ivf":
        return ()
    return (
        f"{info.index} is flat for now, not ivf: every search compares all {info.rows:,} rows, which are too few "
        "for lists or not built into them yet",
    )
