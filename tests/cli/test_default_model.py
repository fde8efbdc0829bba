"""Which model a new index has where none is named."""

import shutil
from pathlib import Path

import pytest

from cli.running import run
from tuwen.demo import demo_bundle, photo_gallery
from tuwen.settings import RECOMMENDED_MODEL


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a person without settings and models, with a photo."""
    monkeypatch.setenv("TUWEN_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    shutil.copy(photo_gallery() / "animals" / "kitten.jpg", tmp_path / "photos")
    return tmp_path


def model_of_a_new_index() -> tuple[str, str]:
    """The model of an index that is built without naming one, and what was said."""
    shutil.rmtree("photos.tuwen", ignore_errors=True)
    built = run("index", "build", "photos", "--index", "photos.tuwen")
    assert built.exit_code == 0, built.stderr
    shown = run("index", "info", "--index", "photos.tuwen", "--json").stdout
    return shown.split('"model": "')[1].split('"')[0], built.stderr


def test_the_packaged_one_and_how_to_get_a_better_one(desk: Path) -> None:
    model, said = model_of_a_new_index()
    assert model == "photo"
    assert f"tuwen pull {RECOMMENDED_MODEL}" in said
    assert RECOMMENDED_MODEL not in run("index", "build", "photos", "--index", "photos.tuwen").stderr
    named = run("index", "build", "photos", "--index", "named.tuwen", "--model", "photo")
    assert RECOMMENDED_MODEL not in named.stderr


def test_the_recommended_one_once_it_is_pulled(desk: Path) -> None:
    shutil.copytree(demo_bundle(), desk / "models" / RECOMMENDED_MODEL)
    model, said = model_of_a_new_index()
    assert model == "pictograms"
    assert "tuwen pull" not in said


def test_the_setting_wins(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_DEFAULT_MODEL", "pictograms")
    model, said = model_of_a_new_index()
    assert model == "pictograms"
    assert "tuwen pull" not in said
