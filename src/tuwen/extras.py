"""The door of every optional package: imported when needed, or one line that says how to install it."""

from importlib import import_module
from types import ModuleType

from tuwen.errors import MissingExtra


def require(package: str, extra: str) -> ModuleType:
    """Import and return `package`.

    Raises:
        MissingExtra: the package itself is not installed; the message has the pip line for `extra`.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.split(".", maxsplit=1)[0]:
            raise
        raise MissingExtra(package, extra) from error
