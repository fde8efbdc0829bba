"""A model of colours and a small collection: see `colours.py`."""

from pathlib import Path

import pytest

import colours
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
