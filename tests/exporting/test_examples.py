"""The examples in the docstrings of export, verify and convert run, and print what they say."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["convert", "verify", pytest.param("export", marks=pytest.mark.long)])
def test_examples_run(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUWEN_CACHE", str(tmp_path / "cache"))
    result = doctest.testmod(import_module(f"tuwen.exporting.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
