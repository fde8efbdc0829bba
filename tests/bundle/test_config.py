from pathlib import Path

import pytest

import tiny
from tuwen.bundle.huggingface import Config
from tuwen.errors import BundleInvalid


@pytest.fixture
def config(tmp_path: Path) -> Config:
    values = {"a": {"b": {"c": 3}}, "null": None, "text": "x", "flag": True, "mean": [0, 0.5, 1]}
    tiny.write_json(tmp_path / "config.json", values)
    return Config(tmp_path / "config.json")


def test_fields_are_found_at_any_depth(config: Config) -> None:
    assert config.need("a.b.c", int) == 3
    assert config.need("a.b", dict) == {"c": 3}
    assert config.need("text", int, str) == "x"
    assert config.numbers("mean") == (0.0, 0.5, 1.0)


def test_null_is_as_good_as_absent(config: Config) -> None:
    assert [config.has(name) for name in ("null", "none", "text.deeper", "a.b.c", "flag")] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert config.get("null", 5) == 5


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("none", int, r"config\.json has no none, which tuwen must know"),
        ("a.b.d", int, r"has no a\.b\.d"),
        ("text", int, "text is 'x': not of the kind int"),
        ("flag", int, "flag is True: not of the kind int"),
    ],
)
def test_what_is_not_right_is_named(config: Config, name: str, kind: type, message: str) -> None:
    with pytest.raises(BundleInvalid, match=message):
        config.need(name, kind)


def test_an_absence_that_means_something_does_not_excuse_another_kind(config: Config) -> None:
    with pytest.raises(BundleInvalid, match="flag is True: not of the kind int"):
        config.get("flag", 3)


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleInvalid, match=r"config\.json (cannot be read as JSON|holds no JSON object)"):
        Config(tmp_path / "config.json")
    with pytest.raises(BundleInvalid, match=r"absent\.json is missing"):
        Config(tmp_path / "absent.json")
