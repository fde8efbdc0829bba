from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import tiny
import tuwen
from tuwen.errors import InvalidInput, RuntimeUnavailable
from tuwen.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person without settings."""
    for variable in ("TUWEN_SETTINGS", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TUWEN_{name.upper()}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_without_any_settings(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.models == tmp_path / ".local/share/tuwen"
    assert settings.cache == tmp_path / ".cache/tuwen"
    assert (settings.default_model, settings.runtime, settings.threads) == (None, "auto", None)
    assert list(tmp_path.iterdir()) == [], "reading settings makes nothing"


def test_folders_are_where_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    assert (Settings().cache, Settings().models) == (tmp_path / "c/tuwen", tmp_path / "d/tuwen")


def test_code_wins_over_environment_and_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".config/tuwen/settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text('threads = 1\nprecision = "fp32"\ndevice = "cpu"\n')
    monkeypatch.setenv("TUWEN_PRECISION", "int8")
    monkeypatch.setenv("TUWEN_DEVICE", "cuda:1")
    settings = Settings(device="cuda:2")
    assert (settings.threads, settings.precision, settings.device) == (1, "int8", "cuda:2")


def test_another_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text("max_pixels = 5\n")
    monkeypatch.setenv("TUWEN_SETTINGS", str(tmp_path / "mine.toml"))
    assert Settings().max_pixels == 5


@pytest.mark.parametrize(
    ("line", "field"), [("thread = 1", "thread"), ("threads = 0", "threads"), ('runtime = "torch"', "runtime")]
)
def test_a_setting_that_cannot_be_is_refused(
    line: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(line + "\n")
    monkeypatch.setenv("TUWEN_SETTINGS", str(tmp_path / "mine.toml"))
    with pytest.raises(ValidationError, match=field):
        Settings()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("threads = = 1\n")
    monkeypatch.setenv("TUWEN_SETTINGS", str(file))
    with pytest.raises(InvalidInput) as caught:
        read_settings()
    assert caught.value.where == file


def test_settings_do_not_change(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().threads = 3


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny.write_bundle(tmp_path / "tiny").folder)


def test_load_gives_an_encoder_and_keeps_its_cache_where_the_settings_say(model: str, tmp_path: Path) -> None:
    encoder = tuwen.load(model, runtime="openvino", precision="fp32", threads=1)
    assert isinstance(encoder, tuwen.Encoder)
    assert (encoder.name, encoder.precision) == ("tiny", "fp32")
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_texts(["dog"])), 1, atol=1e-6)
    assert (tmp_path / ".cache/tuwen/openvino").is_dir()


def test_load_computes_as_the_settings_say_unless_it_is_told(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_PRECISION", "int8")
    with pytest.raises(RuntimeUnavailable):
        tuwen.load(model)
    assert tuwen.load(model, precision="fp32").precision == "fp32"


def test_load_rejects_pictures_over_the_limit_of_the_settings(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv("TUWEN_MAX_PIXELS", "50")
    with pytest.raises(tuwen.errors.RejectedImages):
        tuwen.load(model).encode_images([Image.new("RGB", (9, 9))])


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TUWEN_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InvalidInput) as raised:
        Settings()
    assert "XDG_CACHE_HOME" in raised.value.hint
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, "/elsewhere")
    assert Settings().cache == Path("/elsewhere/tuwen")
