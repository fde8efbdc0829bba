"""The places that an index can be in, each made and opened as callers do: what the conformance suite runs over."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from making import FakeModel

from tuwen.index.index import Index
from tuwen.index.kinds import design

DESIGNS: Mapping[str, Mapping[str, str]] = {
    "edge-hnsw": {"kind": "hnsw"},
    "edge-flat": {"kind": "flat"},
    "faiss-hnsw": {"kind": "hnsw", "store": "faiss", "metric": "l2"},
    "faiss-flat": {"kind": "flat", "store": "faiss"},
    "faiss-ivf": {"kind": "ivf"},
}


@dataclass(frozen=True)
class Home:
    """Where one test's index is, and what it is made as."""

    name: str
    place: Path

    @property
    def on_disk(self) -> bool:
        return isinstance(self.place, Path)

    def create(self, model: FakeModel | None = None, **words) -> Index:
        return Index.create(self.place, encoder=model or FakeModel(), **DESIGNS[self.name], **words)

    def open(self, model: FakeModel | None = None, **words) -> Index:
        return Index.open(self.place, encoder=model or FakeModel(), **words)

    def kind(self) -> str:
        return design(**DESIGNS[self.name]).kind
