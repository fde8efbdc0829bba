"""From a CLIP checkpoint to an image search engine, each step proved.

    encoder = tuwen.load("demo")
    index = tuwen.Index.open("photos.tuwen", encoder=encoder)
    hits = index.search(encoder.encode_texts(["一只狗在草地上"])[0], k=12)

Importing this package imports nothing heavy: each published name is fetched from its room when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuwen.client.client import Client
    from tuwen.index.index import Index
    from tuwen.runtime.encoder import Encoder
    from tuwen.settings import load
    from tuwen.types import Hit

__version__ = "0.1.0"
__all__ = ["Client", "Encoder", "Hit", "Index", "__version__", "load"]

_ROOMS = {
    "Client": "tuwen.client.client",
    "Encoder": "tuwen.runtime.encoder",
    "Hit": "tuwen.types",
    "Index": "tuwen.index.index",
    "load": "tuwen.settings",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (PEP 562: the names have different types)
    if name not in _ROOMS:
        raise AttributeError(f"module 'tuwen' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return __all__
