"""The examples in public docstrings run, and print what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = ("tuwen.runtime.encoder", "tuwen.classify.classifier")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
