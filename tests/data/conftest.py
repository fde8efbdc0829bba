"""The reference libraries, imported once and only by tests that compare with them."""

import pytest


@pytest.fixture(scope="session")
def importable() -> None:
    """Makes open_clip and transformers importable beside a torch without torchvision's operators."""
    from tuwen.models.torchvision import make_torchvision_importable

    make_torchvision_importable()
