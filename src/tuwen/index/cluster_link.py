"""The line to a Qdrant cluster: every call is tried again while the fault may pass, and ends in one line if not.

Knows calls and their faults. Does not know what is asked.
"""

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuwen.errors import IndexFault, IndexNotFound
from tuwen.extras import require
from tuwen.index.place import Cluster

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""seconds before each further attempt, on average: all together six seconds, which a restart takes"""
TIMEOUT = 60
"""seconds until a call without an answer counts as failed"""


class Link:
    """A client of one collection. `link("upsert", points=…)` is `client.upsert(collection, points=…)`."""

    def __init__(
        self, place: Cluster, client: "QdrantClient | None" = None, waits: Sequence[float] = WAITS
    ) -> None:
        self._place = place
        self._client = client or connect(place)
        self._waits = waits

    def __call__(self, method: str, **words: Any) -> Any:  # noqa: ANN401
        """Call a method of the client.

        Raises:
            IndexNotFound: the collection is gone.
            IndexFault: it cannot be done, or not reached in all attempts. The message has place and reason.
        """
        for wait in (*self._waits, None):
            try:
                return getattr(self._client, method)(self._place.name, **words)
            except Exception as error:
                if wait is None or not _may_pass(error):
                    raise self._fault(error) from error
            time.sleep(wait * random.uniform(0.5, 1.5))
        raise AssertionError

    def close(self) -> None:
        """Let go. May be called twice."""
        self._client.close()

    def _fault(self, error: Exception) -> IndexFault:
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return IndexFault(f"{self._place} refuses the key: set TUWEN_QDRANT_KEY to one that may do this")
        if status == 404:
            return IndexNotFound(f"{self._place}: the collection is gone")
        reason = getattr(error, "source", None) or getattr(error, "reason_phrase", None) or error
        said = " ".join(f"{reason}".split())
        tried = f" after {len(self._waits) + 1} attempts" if _may_pass(error) else ""
        return IndexFault(f"{self._place} does not do what it is asked{tried}: {said or type(error).__name__}")


def connect(place: Cluster) -> "QdrantClient":
    """A client.

    Raises:
        MissingExtra: the package is not installed.
    """
    client = require("qdrant_client", extra="cluster").QdrantClient
    headers = {"api-key": place.key} if place.key else None  # as `api_key` it would warn where there is no TLS
    made: QdrantClient = client(
        host=place.host,
        port=place.port,
        https=place.tls,
        headers=headers,
        timeout=TIMEOUT,
        check_compatibility=False,
    )
    return made


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may do better: no connection, too busy, or a fault inside the cluster."""
    from pydantic import ValidationError
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        return error.status_code == 429 or (error.status_code or 0) >= 500
    if isinstance(error, ResponseHandlingException):
        return not isinstance(error.source, ValidationError)
    return isinstance(error, ResourceExhaustedResponse)
