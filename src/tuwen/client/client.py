"""`tuwen.Client`: a running service, asked as an index and an encoder are asked in this process.

Knows the service's paths. Does not know connections: see `transport.py`.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np
from PIL import Image

from tuwen.classify.classifier import Label
from tuwen.client.answers import (
    Added,
    Served,
    ServedModel,
    hits_of,
    labels_of,
    models_of,
    page_of,
    removed_of,
    row_of,
    served_of,
    vectors_of,
)
from tuwen.client.transport import Asked, Transport
from tuwen.client.uploads import Parcel, data_url, parcels, with_parcel
from tuwen.errors import InvalidInput, NotFound, TooLarge
from tuwen.index.store import Stored
from tuwen.runtime.pipeline import AnyImage
from tuwen.search.search import RowId, Term
from tuwen.types import Hit, Vectors

# ---- What hits shall be like, and how much -> what a request says of it.

AnyTerm: TypeAlias = Term | RowId | Hit | str | Path | bytes | Image.Image
"""A text, a picture (path, bytes, image of Pillow), a row (a hit, or its `RowId`); in a `Term` with a weight."""


def id_of(row: str | Hit | RowId) -> str:
    """A row's id."""
    return row if isinstance(row, str) else row.id


def term_document(term: AnyTerm) -> dict[str, object]:
    """A term as POST /v1/recommend takes it."""
    if isinstance(term, Term):
        return term_document(term.what) | {"weight": term.weight}
    if isinstance(term, Hit | RowId):
        return {"id": term.id}
    return {"text": term} if isinstance(term, str) else {"image": data_url(term)}


# ---- The half of a client that changes nothing: searching, labelling, encoding by the service.

TEXTS, IMAGES = 256, 4
"""texts and pictures that one request encodes"""


class Searching:
    """The half of a `Client` that changes nothing."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def search(  # noqa: PLR0913  (the same words as the service's)
        self,
        text: str | None = None,
        image: AnyImage | None = None,
        like: Sequence[str | Hit] = (),
        unlike: Sequence[str | Hit] = (),
        *,
        k: int = 10,
        min_score: float | None = None,
        where: str | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The rows nearest to a text, a picture, and rows that are liked and not liked; best first.

        Args:
            text: what hits shall show.
            image: what they shall be like: a path, a file's bytes, or an image of Pillow.
            like: rows that they shall be like: ids, or hits.
            unlike: rows that they shall not be like.
            k: how many at most.
            min_score: hits of a lower cosine are left out.
            where: a filter, e.g. `width >= 1024 and folder == "2023"`.
            exact: compare with every row instead of asking the approximate index.
        """
        asked = {
            "text": text,
            "image": None if image is None else data_url(image),
            "like": [id_of(row) for row in like],
            "unlike": [id_of(row) for row in unlike],
            "exact": exact,
        }
        return hits_of(self._post("/v1/search", asked | _limits(k, min_score, where)))

    def recommend(  # noqa: PLR0913  (the same words as the service's)
        self,
        like: Sequence[AnyTerm],
        unlike: Sequence[AnyTerm] = (),
        strategy: str = "average",
        k: int = 10,
        min_score: float | None = None,
        where: str | None = None,
        *,
        exact: bool = False,
        diversity: float = 0.0,
        unique: float | None = None,
    ) -> list[Hit]:
        """The rows that are like some things and unlike others; best first.

        Args:
            like: texts, pictures and rows, each alone or in a `Term` with a weight; see `AnyTerm`.
            unlike: what hits shall not be like.
            strategy: `average`, or `best`: see `tasks/search.py`.
            k: how many at most.
            min_score: hits of a lower cosine are left out.
            where: a filter, see `search`.
            exact: see `search`.
            diversity: 0 to 1: how much hits shall differ from each other.
            unique: fold hits into the best one where they are as near to it as that cosine.
        """
        asked = {
            "like": [term_document(term) for term in like],
            "unlike": [term_document(term) for term in unlike],
            "strategy": strategy,
            "exact": exact,
            "diversity": diversity,
            "unique": unique,
        }
        return hits_of(self._post("/v1/recommend", asked | _limits(k, min_score, where)))

    def classify(
        self,
        image: AnyImage | Hit,
        labels: Sequence[str],
        template: str | Sequence[str] | None = None,
        *,
        multi_label: bool = False,
    ) -> tuple[Label, ...]:
        """How well each label fits a picture, best first.

        Args:
            image: a path, a file's bytes, an image of Pillow, or a hit.
            labels: what it may show.
            template: a sentence with a _ or {} for the label, or several, which are averaged.
            multi_label: judge each label by itself.

        Raises:
            RejectedImages: the picture cannot be read.
        """
        what = {"id": image.id} if isinstance(image, Hit) else {"image": data_url(image)}
        templates = {} if template is None else {"template": template if isinstance(template, str) else list(template)}
        asked = what | templates | {"labels": list(labels), "multi_label": multi_label}
        return labels_of(self._post("/v1/classify", asked))

    def models(self) -> tuple[ServedModel, ...]:
        """The models that the service encodes with: one, its index's own."""
        return models_of(self._transport.document("GET", "/v1/models"))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as vectors of the service's model: (n, dim) float32, every row of length 1."""
        if isinstance(texts, str):
            raise InvalidInput(f"one text was given where several are wanted: write [{texts!r}]")
        parts = [list(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)]
        return vectors_of([self._embed(part) for part in parts]) if parts else self._none()

    def embed_images(self, images: Sequence[AnyImage]) -> Vectors:
        """Pictures as vectors of the service's model: (n, dim) float32, every row of length 1.

        Args:
            images: paths, files' bytes, or images of Pillow.

        Raises:
            RejectedImages: a file cannot be opened.
            InvalidInput: a picture cannot be read.
        """
        if isinstance(images, str | bytes | Path | Image.Image):
            raise InvalidInput("one picture was given where several are wanted: put it into a list")
        parts = [images[start : start + IMAGES] for start in range(0, len(images), IMAGES)]
        if not parts:
            return self._none()
        return vectors_of([self._embed([data_url(image) for image in part]) for part in parts])

    def _post(self, path: str, asked: Mapping[str, object]) -> Mapping[str, Any]:
        return self._transport.document("POST", path, Asked(json=asked))

    def _embed(self, inputs: Sequence[str]) -> Mapping[str, Any]:
        return self._post("/v1/embeddings", {"input": inputs, "encoding_format": "base64"})

    def _none(self) -> Vectors:
        return np.empty((0, self.models()[0].dim), np.float32)


def _limits(k: int, min_score: float | None, where: str | None) -> dict[str, object]:
    """How many hits, and which."""
    return {"k": k, "min_score": min_score, "where": where}


# ---- `tuwen.Client`: a running service, asked as an index and an encoder are asked in this process.

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
