"""A model of colours and a small collection: see `colours.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import colours
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest
from tuwen.runtime.loading import Choice, load_encoder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.make_bundle(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="session")
def encoder(bundle: Path):
    return load_encoder(str(bundle), Choice(runtime="onnxruntime"), models=bundle.parent, cache=None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return colours.make_photos(tmp_path / "PHOTOS")


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, encoder):
    """An index of the photos, to look at, not to change."""
    with _filled(tmp_path_factory.mktemp("filled"), encoder) as index:
        yield index


@pytest.fixture
def filled_alone(tmp_path: Path, encoder):
    """The same, of a test's own."""
    with _filled(tmp_path / "alone", encoder) as index:
        yield index


@contextmanager
def _filled(folder: Path, encoder) -> Iterator[VectorIndex]:
    photos = colours.make_photos(folder / "PHOTOS")
    with VectorIndex.create(folder / "filled.tuwen", encoder=encoder, root=photos) as index:
        for _ in ingest([photos], encoder, index):
            pass
        yield index
