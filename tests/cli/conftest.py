"""A folder with pictures and a model, in which commands are typed."""

from collections.abc import Callable
from pathlib import Path

import pytest

import colours
from cli.running import run

Type = Callable[..., str]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """A command that ends well, in a folder with pictures and a model; what it printed."""
    monkeypatch.setenv("TUWEN_CACHE", str(tmp_path / "cache"))  # where jobs note what they have done
    monkeypatch.chdir(tmp_path)
    colours.make_photos(tmp_path / "photos")
    colours.make_bundle(tmp_path / "model")

    def typed(*words: object) -> str:
        ended = run(*words)
        assert ended.exit_code == 0, ended.stderr
        return str(ended.stdout)

    return typed
