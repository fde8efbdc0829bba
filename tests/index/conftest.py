"""A model that needs no bundle, rows that need no pictures, and an empty index to copy."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import DIM, FakeModel

from tuwen.index.index import VectorIndex


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="session")
def empty(memory: Path) -> Path:
    folder = memory / "photos.tuwen"
    VectorIndex.create(folder, encoder=FakeModel(dim=DIM)).close()
    return folder


@pytest.fixture
def place(memory: Path) -> Iterator[Path]:
    """A folder of one test. In memory an index takes 60 MB and more: it must not stay."""
    with tempfile.TemporaryDirectory(dir=memory) as place:
        yield Path(place)


@pytest.fixture
def folder(empty: Path, place: Path) -> Path:
    """A new index's folder, closed."""
    return copied(empty, place / "photos.tuwen")


@pytest.fixture
def index(folder: Path, model: FakeModel) -> Iterator[VectorIndex]:
    with VectorIndex.open(folder, encoder=model) as index:
        yield index


def copied(source: Path, target: Path) -> Path:
    """Copy a folder, holes as holes: a shard's log is 64 MB long and mostly empty."""
    if shutil.which("cp") is None:
        shutil.copytree(source, target)
    else:
        subprocess.run(["cp", "-R", source, target], check=True)
    return target
