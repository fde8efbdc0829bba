"""A service as it runs: the real application on a real port, with the packaged model and a part of its gallery."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from httpx2 import Client

from tuwen.demo import demo_gallery
from tuwen.runtime.encoder import Encoder

from .serving import Served, serving


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The packaged model, computing the same on every machine."""
    from tuwen.api import load

    return load("demo", runtime="onnxruntime", precision="fp32", threads=1)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of 92 pictures, a folder below a folder for each group."""
    folder = tmp_path_factory.mktemp("collection") / "photos"
    for picture in sorted(path for path in demo_gallery().rglob("*") if path.is_file())[::20]:
        (folder / picture.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder / picture.parent.name)
    return folder


@pytest.fixture(scope="module")
def served(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that pictures may be added to, for all tests of a file."""
    with serving(encoder, photos, tmp_path_factory.mktemp("served"), allow_upload=True) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    """Calls it."""
    return served.client
