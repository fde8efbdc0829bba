"""The real service with the packaged model on a real port, and its client."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import tuwen
from server.conftest import encoder, photos  # noqa: F401  (fixtures)
from server.serving import Served, serving


@pytest.fixture(scope="package")
def served(encoder, photos, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:  # noqa: F811
    with serving(encoder, photos, tmp_path_factory.mktemp("service"), allow_upload=True) as running:
        yield running


@pytest.fixture(scope="package")
def client(served: Served) -> Iterator[tuwen.Client]:
    with tuwen.Client(served.url) as client:
        yield client


@pytest.fixture
def picture(photos: Path) -> Path:  # noqa: F811
    return sorted(photos.rglob("*.*"))[7]
