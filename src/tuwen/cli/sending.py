"""Pictures of this machine, labelled by a service: one request each, a few at a time.

Knows files and the client. Does not know what is shown of it.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuwen.errors import RejectedImages, TooLarge
from tuwen.prepare.sources import Skipped, key_of
from tuwen.tasks.ahead import ahead, grouped, threads
from tuwen.tasks.classify import Classified
from tuwen.tasks.files import find_files
from tuwen.types import Rejected, Source

if TYPE_CHECKING:
    from tuwen.client.client import Client

AT_ONCE = 8
"""requests under way: enough to fill a service's batches, few enough for its queue"""


def classify_files(
    path: Path, labels: Sequence[str], templates: Sequence[str], client: "Client", *, multi_label: bool
) -> Generator[list[Classified | Rejected]]:
    """As `tasks.classify.classify`, by a service."""
    found = find_files([path], path) if path.is_dir() else [Source(key_of(path, path.parent), path, 0, 0.0)]
    items = (item for item in found if not isinstance(item, Skipped))

    def label(item: Source | Rejected) -> Classified | Rejected:
        if isinstance(item, Rejected):
            return item
        try:
            return Classified(
                item.key, client.classify(item.path, labels, templates or None, multi_label=multi_label)
            )
        except RejectedImages as error:
            return Rejected(item.key, error.rejected[0].reason)
        except TooLarge as error:
            return Rejected(item.key, f"is too long for the service: {error}")

    with threads(AT_ONCE) as pool:
        yield from grouped(ahead(pool, label, items, early=AT_ONCE), AT_ONCE)
