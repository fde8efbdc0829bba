"""Small models, exported once a session through the real export path."""

from pathlib import Path

import pytest

from models import tiny_transformers
from tuwen.bundle.bundle import Bundle
from tuwen.exporting.export import export_towers
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers

from . import checkpoints


@pytest.fixture(scope="session")
def tiny_towers() -> Towers:
    return checkpoints.causal()


@pytest.fixture(scope="session")
def masked_towers(tmp_path_factory) -> Towers:
    """AltCLIP of transformers, whose text tower takes an attention mask."""
    return load_source(str(tiny_transformers.write(tmp_path_factory.mktemp("masked") / "checkpoint", "altclip")))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_towers, tmp_path_factory) -> Bundle:
    """open_clip's ViT-B-32 with two narrow layers, at both precisions."""
    return export_towers(tiny_towers, tmp_path_factory.mktemp("tiny") / "bundle", ("fp32", "fp16"))


@pytest.fixture(scope="session")
def masked_bundle(masked_towers, tmp_path_factory) -> Bundle:
    return export_towers(masked_towers, tmp_path_factory.mktemp("masked") / "bundle", ("fp32", "fp16"))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "bundle"
