"""Image search with CLIP models: export, index, search, classify, train and serve.

    import tuwen

    index = tuwen.Index.build("photos/", "photos.tuwen")
    for hit in index.search("two dogs on a beach", k=12):
        print(f"{hit.score:.3f}", hit.payload["path"])

Importing this package imports nothing heavy: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuwen.api import Encoder, Index, load
    from tuwen.bulk.embed import embed
    from tuwen.bulk.job import EmbedReport
    from tuwen.classify.classifier import Classifier
    from tuwen.client.client import Client
    from tuwen.data.selection import Selection
    from tuwen.errors import (
        BundleChanged,
        BundleError,
        BundleInvalid,
        BundleNotFound,
        DiskFull,
        Diverged,
        IndexFault,
        IndexInvalid,
        IndexLocked,
        IndexNotFound,
        InvalidInput,
        InvalidVectors,
        KeyRefused,
        MissingExtra,
        NotConverted,
        NotFound,
        NotVerified,
        PullFailed,
        RejectedImages,
        RuntimeUnavailable,
        ServiceBusy,
        ServiceFault,
        ServiceUnreachable,
        TooLarge,
        TooManyRemoved,
        TuwenError,
        WrongModel,
    )
    from tuwen.evaluation.adapt import adapt
    from tuwen.evaluation.evaluate import evaluate
    from tuwen.exporting.export import export
    from tuwen.search.query import Query
    from tuwen.training.loop import TrainResult
    from tuwen.training.run import train
    from tuwen.types import Hit

__version__ = "0.1.0"
__all__ = [
    "BundleChanged",
    "BundleError",
    "BundleInvalid",
    "BundleNotFound",
    "Classifier",
    "Client",
    "DiskFull",
    "Diverged",
    "EmbedReport",
    "Encoder",
    "Hit",
    "Index",
    "IndexFault",
    "IndexInvalid",
    "IndexLocked",
    "IndexNotFound",
    "InvalidInput",
    "InvalidVectors",
    "KeyRefused",
    "MissingExtra",
    "NotConverted",
    "NotFound",
    "NotVerified",
    "PullFailed",
    "Query",
    "RejectedImages",
    "RuntimeUnavailable",
    "Selection",
    "ServiceBusy",
    "ServiceFault",
    "ServiceUnreachable",
    "TooLarge",
    "TooManyRemoved",
    "TrainResult",
    "TuwenError",
    "WrongModel",
    "__version__",
    "adapt",
    "embed",
    "evaluate",
    "export",
    "load",
    "train",
]

_MODULES = {
    "BundleChanged": "tuwen.errors",
    "BundleError": "tuwen.errors",
    "BundleInvalid": "tuwen.errors",
    "BundleNotFound": "tuwen.errors",
    "Classifier": "tuwen.classify.classifier",
    "Client": "tuwen.client.client",
    "DiskFull": "tuwen.errors",
    "Diverged": "tuwen.errors",
    "EmbedReport": "tuwen.bulk.job",
    "Encoder": "tuwen.api",
    "Hit": "tuwen.types",
    "Index": "tuwen.api",
    "IndexFault": "tuwen.errors",
    "IndexInvalid": "tuwen.errors",
    "IndexLocked": "tuwen.errors",
    "IndexNotFound": "tuwen.errors",
    "InvalidInput": "tuwen.errors",
    "InvalidVectors": "tuwen.errors",
    "KeyRefused": "tuwen.errors",
    "MissingExtra": "tuwen.errors",
    "NotConverted": "tuwen.errors",
    "NotFound": "tuwen.errors",
    "NotVerified": "tuwen.errors",
    "PullFailed": "tuwen.errors",
    "Query": "tuwen.search.query",
    "RejectedImages": "tuwen.errors",
    "RuntimeUnavailable": "tuwen.errors",
    "Selection": "tuwen.data.selection",
    "ServiceBusy": "tuwen.errors",
    "ServiceFault": "tuwen.errors",
    "ServiceUnreachable": "tuwen.errors",
    "TooLarge": "tuwen.errors",
    "TooManyRemoved": "tuwen.errors",
    "TrainResult": "tuwen.training.loop",
    "TuwenError": "tuwen.errors",
    "WrongModel": "tuwen.errors",
    "adapt": "tuwen.evaluation.adapt",
    "embed": "tuwen.bulk.embed",
    "evaluate": "tuwen.evaluation.evaluate",
    "export": "tuwen.exporting.export",
    "load": "tuwen.api",
    "train": "tuwen.training.run",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (PEP 562: the names have different types)
    if name not in _MODULES:
        raise AttributeError(f"module 'tuwen' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
