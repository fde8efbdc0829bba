"""`tuwen.Client`: a running service, asked as an index and an encoder are asked in this process.

Knows the service's paths. Does not know connections: see `transport.py`.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from PIL import Image

from tuwen.client.answers import Added, Served, page_of, removed_of, row_of, served_of
from tuwen.client.searching import Searching
from tuwen.client.terms import id_of
from tuwen.client.transport import Asked, Transport
from tuwen.client.uploads import Parcel, parcels, with_parcel
from tuwen.errors import InvalidInput, NotFound, TooLarge
from tuwen.index.store import Stored
from tuwen.runtime.decoding import AnyImage
from tuwen.types import Hit

PAGE = 500
"""rows asked for at a time"""


class Client(Searching, AbstractContextManager["Client"]):
    """A service that `tuwen serve` runs. A context manager; or call `close`. Safe in several threads.

    All methods raise ServiceUnreachable, ServiceBusy, KeyRefused or another ServiceFault where the service cannot
    be asked or fails, and InvalidInput, with the service's own line, where it cannot do what was asked. A service
    that is busy is asked again after the time it names, a few times and no longer than `timeout`.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 30) -> None:
        """Nothing is sent yet.

        Args:
            url: where the service answers, e.g. http://127.0.0.1:8000.
            key: what it was given as its key, if it has one.
            timeout: seconds to wait for a connection, for each part of an answer, and while it is busy.

        Raises:
            InvalidInput: `url` is no http or https address, or `key` can be no key.
        """
        super().__init__(Transport(url, key, timeout))
        self.url = self._transport.url

    def add(self, images: Sequence[AnyImage]) -> Added:
        """Upload pictures: files, folders of pictures, files' bytes, images of Pillow.

        What has returned is kept, also if the service is killed. The same picture twice is one row. Pictures that
        cannot be read are in the report, with the reason.
        """
        *_, report = self.adding(images)
        return report

    def adding(self, images: Sequence[AnyImage]) -> Generator[Added]:
        """As `add`; yields a report of all so far after every request that was answered."""
        if isinstance(images, str | bytes | Path | Image.Image):
            raise InvalidInput("one picture was given where several are wanted: put it into a list")
        start, report = monotonic(), Added()
        for parcel in parcels(images):
            for sent, answer in self._sent(parcel):
                report = with_parcel(report, sent, answer, monotonic() - start)
                yield report

    def remove(self, ids: Sequence[str | Hit]) -> int:
        """Take rows out, by id; how many of them there were."""
        return sum(self._remove(id_of(row)) for row in ids)

    def get(self, id: str) -> Stored:  # noqa: A002  (a row's id is called so everywhere)
        """What is stored of a row, without its vector; InvalidInput where there is none of that id."""
        return row_of(self._transport.document("GET", f"{_path(id)}/facts"))

    def picture(self, row: str | Hit) -> bytes:
        """A row's file, as it is."""
        return self._transport.content(_path(id_of(row)))

    def info(self) -> Served:
        """Facts about the service's index."""
        return served_of(self._transport.document("GET", "/v1/index"))

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._transport.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def list(self, where: str | None = None) -> Iterator[Stored]:
        """The rows by key, without their vectors; with `where`, those that it keeps."""
        params: dict[str, str | int] = {"k": PAGE} | ({} if where is None else {"where": where})
        seen, total = 0, 1
        while seen < total:
            answer = self._transport.document("GET", "/v1/images", Asked(params=params | {"offset": seen}))
            rows, total = page_of(answer)
            yield from rows
            seen += PAGE

    def _sent(self, parcel: Parcel) -> Iterator[tuple[Parcel, Mapping[str, Any] | None]]:
        """What was sent, with its answer: a parcel that is too much for the service file by file."""
        answer = None
        try:
            if parcel.files:
                answer = self._transport.document("POST", "/v1/images", Asked(files=parcel.form))
        except TooLarge as error:
            for part in parcel.parts(str(error)):
                yield from self._sent(part)
        else:
            yield parcel, answer

    def _remove(self, row: str) -> int:
        try:
            return removed_of(self._transport.document("DELETE", _path(row)))
        except NotFound:
            return 0


def _path(row: str) -> str:
    return f"/v1/images/{quote(row, safe='')}"
