"""A warnings filter for Pillow that works in threads, and libtiff's messages switched off.

Pillow warns about odd tags through the process-wide `warnings`. `warnings.catch_warnings` is not thread-safe: two
blocks that overlap leave the process with the wrong filters. So the Pillow modules that warn get a stand-in for
`warnings`, which drops what a thread warns about inside `ignore_warnings()` and passes on everything else. What is
wrong with a file is in the reason for its rejection.
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


class _Thread(threading.local):
    ignores = False


_thread = _Thread()


class _Warnings(ModuleType):
    """Replaces the module `warnings` inside Pillow."""

    def warn(self, message: str, category: type[Warning] | None = None, stacklevel: int = 1) -> None:
        """As `warnings.warn`, unless this thread ignores warnings."""
        if not _thread.ignores:
            warnings.warn(message, category, stacklevel + 1)

    def __getattr__(self, name: str) -> object:
        return getattr(warnings, name)


@cache
def _install() -> None:
    stand_in = _Warnings("warnings")
    for name in _WARNING_MODULES:
        module = vars(import_module(f"PIL.{name}"))
        if module.get("warnings") is warnings:
            module["warnings"] = stand_in
    logging.getLogger("PIL.TiffImagePlugin").addFilter(lambda _: not _thread.ignores)


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings in this thread until the block ends. Blocks may be nested."""
    _install()
    before, _thread.ignores = _thread.ignores, True
    try:
        yield
    finally:
        _thread.ignores = before


def silence_libtiff() -> None:
    """Stop libtiff from printing to standard error about damaged files. It affects the whole process.

    libtiff prints from C, past Python. Does nothing if Pillow's libtiff cannot be reached.
    """
    library = ctypes.CDLL(import_module("PIL._imaging").__file__)
    with suppress(AttributeError):
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)
