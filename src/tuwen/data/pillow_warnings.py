"""Pillow's warnings, kept from a thread that reads files; and libtiff's, from standard error.

Pillow warns of odd tags through the process-wide `warnings`, and `warnings.catch_warnings` may not be used in
threads: two that overlap leave the process with the wrong filters. So the modules of Pillow that warn are given a
`warnings` that drops what a thread warns of inside `quiet()`, and passes on everything else unchanged. What was
wrong with a file is in the reason why it was rejected.
"""

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from types import ModuleType

_WARNING_MODULES = ("Image", "IcoImagePlugin", "JpegImagePlugin", "PngImagePlugin", "TiffImagePlugin")


class _Here(threading.local):
    quiet = False


_here = _Here()


class _Warnings(ModuleType):
    """Stands in for the module `warnings` inside Pillow."""

    def warn(self, message: str, category: type[Warning] | None = None, stacklevel: int = 1) -> None:
        """As `warnings.warn`, unless this thread is quiet."""
        if not _here.quiet:
            warnings.warn(message, category, stacklevel + 1)

    def __getattr__(self, name: str) -> object:
        return getattr(warnings, name)


@cache
def _stand_in() -> None:
    stand_in = _Warnings("warnings")
    for name in _WARNING_MODULES:
        module = vars(import_module(f"PIL.{name}"))
        if module.get("warnings") is warnings:
            module["warnings"] = stand_in
    logging.getLogger("PIL.TiffImagePlugin").addFilter(lambda _: not _here.quiet)


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns of nothing in this thread until the block ends. Blocks may be nested."""
    _stand_in()
    before, _here.quiet = _here.quiet, True
    try:
        yield
    finally:
        _here.quiet = before


def silence_libtiff() -> None:
    """For a program that owns its process: libtiff no longer prints to standard error about damaged files.

    libtiff writes there by itself, past Python. Does nothing where Pillow's libtiff cannot be reached by name.
    """
    library = ctypes.CDLL(import_module("PIL._imaging").__file__)
    with suppress(AttributeError):
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
