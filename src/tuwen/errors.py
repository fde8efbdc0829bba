"""Every error that tuwen raises on purpose.

    TuwenError                       exit code 1
    ├── InvalidInput (ValueError)    exit code 2: a value that was given cannot be used
    │   ├── NotFound                 a running service has no such row
    │   └── TooLarge                 a running service takes no picture, or no request, of so many bytes
    ├── RejectedImages (ValueError)  pictures that cannot be read, each with its reason
    ├── BundleError
    │   ├── BundleNotFound           no bundle in that folder, or no model of that name on this machine
    │   ├── BundleInvalid            a field is missing, unknown or contradicts the files
    │   ├── PullFailed               a model's files could not be brought from the hub
    │   ├── BundleChanged            a file is not the one the manifest names (size or sha256)
    │   ├── NotVerified              a bundle does not reproduce its checkpoint, and was not published
    │   └── NotConverted             a bundle cannot be written for another runtime, or is another there
    ├── RuntimeUnavailable           a runtime, device or precision that was asked for is not here
    ├── IndexFault
    │   ├── IndexNotFound            no index in that folder
    │   ├── IndexInvalid             the folder's content is not an index that this version reads
    │   ├── IndexLocked              another process holds the index
    │   ├── WrongModel               the index holds another model's vectors
    │   └── InvalidVectors           vectors of wrong shape, not finite or not of unit length
    ├── ServiceFault                 a running service was asked, and failed
    │   ├── ServiceUnreachable       nothing answers at its address, or not in time
    │   ├── ServiceBusy              it has more to do than it takes, also after waiting
    │   └── KeyRefused               its key is missing, wrong, or does not allow this
    ├── Diverged                     a training run whose loss or weights are no numbers any more
    └── MissingExtra (ImportError)   an optional package is needed; the message has the pip line

A message says what value, where it stood, and how to mend it, in one line. The command line prints it as it
is, without a traceback; anything else that escapes is a bug of ours.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuwen.bundle.manifest import Check, Precision, Report
    from tuwen.types import Rejected


class TuwenError(Exception):
    """The base of all errors that tuwen raises on purpose.

    Attributes:
        value: the value that is wrong, where there is one.
        where: the file, row, field or option that it was found in.
        hint: what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str = "", *, value: object = None, where: object = None, hint: str = "") -> None:
        super().__init__(message)
        self.value, self.where, self.hint = value, where, hint


class InvalidInput(TuwenError, ValueError):
    """A value that was given cannot be used."""

    exit_code = 2


class NotFound(InvalidInput):
    """A running service has no such row."""


class TooLarge(InvalidInput):
    """A running service takes no picture, or no request, of so many bytes."""


class RejectedImages(TuwenError, ValueError):
    """Pictures that cannot be read. `.rejected` lists each with its reason."""

    def __init__(self, rejected: "Sequence[Rejected]") -> None:
        self.rejected = tuple(rejected)
        shown = "; ".join(f"{item.path}: {item.reason}" for item in self.rejected[:3])
        more = f"; and {len(self.rejected) - 3} more" if len(self.rejected) > 3 else ""
        super().__init__(f"{len(self.rejected)} of the pictures cannot be read: {shown}{more}")


class BundleError(TuwenError):
    """Something is wrong with a bundle."""


class BundleNotFound(BundleError):
    """There is no bundle in that folder, or no model of that name on this machine."""


class BundleInvalid(BundleError):
    """A field of a bundle is missing, unknown, or contradicts its files."""


class BundleChanged(BundleError):
    """A file of a bundle is not the one that its manifest names."""


class PullFailed(BundleError):
    """A model's files could not be brought from the hub, or are not what is needed there."""


class NotVerified(BundleError):
    """A bundle does not reproduce its checkpoint, and was not published. `.reports` has every check."""

    def __init__(self, message: str, reports: "Mapping[Precision, Report]") -> None:
        self.reports = reports
        super().__init__(message)


class NotConverted(BundleError):
    """A bundle cannot be written for another runtime, or is another there. `.checks` has what was found."""

    def __init__(self, message: str, checks: "Sequence[Check]" = ()) -> None:
        self.checks = tuple(checks)
        super().__init__(message)


class RuntimeUnavailable(TuwenError):
    """A runtime, device or precision that was asked for is not on this machine."""


class IndexFault(TuwenError):
    """Something is wrong with an index."""


class IndexNotFound(IndexFault):
    """There is no index in that folder."""


class IndexInvalid(IndexFault):
    """The folder's content is not an index that this version reads."""


class IndexLocked(IndexFault):
    """Another process holds the index."""


class WrongModel(IndexFault):
    """The index holds vectors of another model than the one given."""


class InvalidVectors(IndexFault):
    """Vectors of wrong shape, not finite, or not of unit length."""


class ServiceFault(TuwenError):
    """A running service was asked, and failed; or what answers is no such service."""


class ServiceUnreachable(ServiceFault):
    """Nothing answers at a service's address, or not in time."""


class ServiceBusy(ServiceFault):
    """A service has more to do than it takes, and it stayed so while we waited."""


class KeyRefused(ServiceFault):
    """A service's key is missing, wrong, or does not allow what was asked."""


class Diverged(TuwenError):
    """A training run's loss or weights are no numbers any more."""


class MissingExtra(TuwenError, ImportError):
    """An optional package is needed. `.extra` names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"this needs the package {package}, which is not installed: pip install 'tuwen[{extra}]'")


# ---- The door of every optional package: imported when needed, or one line that says how to install it.


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
