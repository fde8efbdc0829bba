"""A model of colours and a small collection: see `colours.py`."""

from pathlib import Path

import pytest

import colours
from tuwen.index.index import Index
from tuwen.prepare.images import reading_for
from tuwen.tasks.ingest import ingest
from tuwen.tasks.load import Choice, load_encoder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.make_bundle(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture(scope="session")
def encoder(bundle: Path):
    return load_encoder(str(bundle), Choice(runtime="onnxruntime"), models=bundle.parent, cache=None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return colours.make_photos(tmp_path / "PHOTOS")


@pytest.fixture
def filled(tmp_path: Path, encoder, photos: Path):
    """An index of all of the photos."""
    reading = reading_for(encoder.image_spec, exact=False, max_pixels=10**7)
    with Index.create(tmp_path / "filled.tuwen", encoder=encoder, root=photos) as index:
        for _ in ingest([photos], encoder, index, reading=reading, decoders=1):
            pass
        yield index
