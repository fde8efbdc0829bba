"""Functions of the user's own modules, named in a configuration as `python:package.module:function`.

Knows how a name becomes a function. Does not know what the function is for.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuwen.errors import InvalidInput

PREFIX = "python:"


def call(name: str, *arguments: object, **settings: object) -> Any:  # noqa: ANN401  (whatever it returns)
    """What the function behind `python:package.module:function` returns.

    Raises:
        InvalidInput: there is no such function, or it does not take these arguments.
    """
    function = _function_of(name)
    try:
        inspect.signature(function).bind(*arguments, **settings)
    except TypeError as error:
        raise InvalidInput(f"{name} does not take what it is given: {error}") from error
    return function(*arguments, **settings)


def _function_of(name: str) -> Callable[..., Any]:
    """What stands behind `python:package.module:function`; modules of the folder that one is in are found, too.

    Raises:
        InvalidInput: there is no such module, or it has no such function.
    """
    module, _, attribute = name.removeprefix(PREFIX).partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it: a script's own folder is where it is run
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInput(f"{name} cannot be imported: {error}; write {PREFIX}package.module:function") from error
    return function
