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
    ("name", "value"),
    [("none", None), ("a.b.d", None), ("text", "x"), ("flag", True)],
)
def test_what_is_not_right_is_named(config: Config, name: str, value: object) -> None:
    with pytest.raises(BundleInvalid) as caught:
        config.need(name, int)
    assert (caught.value.value, caught.value.where) == (value, f"config.json: {name}")


def test_an_absence_that_means_something_does_not_excuse_another_kind(config: Config) -> None:
    with pytest.raises(BundleInvalid):
        config.get("flag", 3)


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    for name in ("config.json", "absent.json"):
        with pytest.raises(BundleInvalid) as caught:
            Config(tmp_path / name)
        assert caught.value.where == tmp_path / name
