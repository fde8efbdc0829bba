"""The errors that tuwen raises.

    TuwenError                       exit code 1
    ├── InvalidInput (ValueError)    exit code 2: a value that was given cannot be used
    │   ├── NotFound                 the service has no such row
    │   ├── TooManyRemoved           an update would remove the rows of too many images
    │   └── TooLarge                 an image or a request is over the service's size limit
    ├── RejectedImages (ValueError)  images that cannot be read, each with its reason
    ├── BundleError
    │   ├── BundleNotFound           no bundle in that folder, or no model of that name on this machine
    │   ├── BundleInvalid            a field is missing, unknown or contradicts the files
    │   ├── PullFailed               a model could not be downloaded from the hub
    │   ├── BundleChanged            a file differs from the manifest (size or sha256)
    │   ├── NotVerified              a bundle does not reproduce its checkpoint, so it was not published
    │   └── NotConverted             a bundle cannot be converted for another runtime, or computes other vectors there
    ├── RuntimeUnavailable           a runtime, device or precision is not available on this machine
    ├── IndexFault
    │   ├── IndexNotFound            no index in that folder
    │   ├── IndexInvalid             not an index that this version reads
    │   ├── IndexLocked              another process holds the index
    │   ├── DiskFull                 not enough space to write to the index
    │   ├── WrongModel               the index holds another model's vectors
    │   └── InvalidVectors           vectors of wrong shape, not finite or not of unit length
    ├── ServiceFault                 a request to a service failed
    │   ├── ServiceUnreachable       nothing answers at its address, or not in time
    │   ├── ServiceBusy              the service is overloaded, and stayed so while the client retried
    │   └── KeyRefused               the API key is missing, wrong, or does not permit the request
    ├── Diverged                     a training run whose loss or weights are not finite
    └── MissingExtra (ImportError)   an optional package is needed; the message has the pip command

A message says in one line what is wrong, where, and what to do. The command line prints it without a traceback; any
other exception that reaches the command line is a bug in tuwen.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuwen.bundle.manifest import Check, Precision, Report
    from tuwen.types import Rejected


class TuwenError(Exception):
    """The base class of tuwen's errors.

    Attributes:
        value: the value that is wrong; None if there is none.
        where: the file, row, field or option in which it was found.
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
    """The service has no such row."""


class TooManyRemoved(InvalidInput):
    """An update would remove the rows of too many images: perhaps a disk is not mounted."""


class TooLarge(InvalidInput):
    """An image or a request is over the service's size limit."""


class RejectedImages(TuwenError, ValueError):
    """Images that cannot be read. `.rejected` lists each with its reason."""

    def __init__(self, rejected: "Sequence[Rejected]", hint: str = "") -> None:
        self.rejected = tuple(rejected)
        shown = "; ".join(f"{item.path}: {item.reason}" for item in self.rejected[:3])
        more = f"; and {len(self.rejected) - 3} more" if len(self.rejected) > 3 else ""
        message = f"{len(self.rejected)} images cannot be read: {shown}{more}"
        super().__init__(f"{message}; {hint}" if hint else message, value=self.rejected, hint=hint)


class BundleError(TuwenError):
    """The base class of errors about a bundle."""


class BundleNotFound(BundleError):
    """There is no bundle in that folder, or no model of that name on this machine."""


class BundleInvalid(BundleError):
    """A field of a bundle is missing, unknown, or contradicts its files."""


class BundleChanged(BundleError):
    """A file of a bundle differs from the manifest."""


class PullFailed(BundleError):
    """A model could not be downloaded from the hub, or lacks files there."""


class NotVerified(BundleError):
    """A bundle does not reproduce its checkpoint, so it was not published. `.reports` has every check."""

    def __init__(self, message: str, reports: "Mapping[Precision, Report]") -> None:
        self.reports = reports
        super().__init__(message)


class NotConverted(BundleError):
    """A bundle cannot be converted for another runtime, or computes other vectors there; see `.checks`."""

    def __init__(
        self,
        message: str,
        checks: "Sequence[Check]" = (),
        *,
        value: object = None,
        where: object = None,
        hint: str = "",
    ) -> None:
        self.checks = tuple(checks)
        super().__init__(message, value=value, where=where, hint=hint)


class RuntimeUnavailable(TuwenError):
    """A runtime, device or precision is not available on this machine."""


class IndexFault(TuwenError):
    """The base class of errors about an index."""


class IndexNotFound(IndexFault):
    """There is no index in that folder."""


class IndexInvalid(IndexFault):
    """The folder does not contain an index that this version reads."""


class IndexLocked(IndexFault):
    """Another process holds the index."""


class DiskFull(IndexFault):
    """There is not enough space to write to the index; `.value` has the free bytes."""


class WrongModel(IndexFault):
    """The index holds the vectors of another model."""


class InvalidVectors(IndexFault):
    """Vectors of wrong shape, not finite, or not of unit length."""


class ServiceFault(TuwenError):
    """A request to a service failed; or the address is not a tuwen service."""


class ServiceUnreachable(ServiceFault):
    """Nothing answers at a service's address, or not in time."""


class ServiceBusy(ServiceFault):
    """The service is overloaded, and stayed so while the client retried."""


class KeyRefused(ServiceFault):
    """The API key is missing, wrong, or does not permit the request."""


class Diverged(TuwenError):
    """A training run's loss or weights are not finite."""


class MissingExtra(TuwenError, ImportError):
    """An optional package is needed. `.extra` names the extra that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        self.extra = extra
        hint = f"pip install 'tuwen[{extra}]'"
        super().__init__(f"the package {package} is not installed: {hint}", value=package, hint=hint)


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingExtra: the package is not installed; the message has the pip command for `extra`.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.split(".", maxsplit=1)[0]:
            raise
        raise MissingExtra(package, extra) from error
