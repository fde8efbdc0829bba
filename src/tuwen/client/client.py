"""`tuwen.Client`: a running service with the methods of `Index`, `Encoder` and `Classifier`."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import numpy as np
from PIL import Image

from tuwen.classify.classifier import Prediction, Predictions
from tuwen.classify.labels import PLAIN
from tuwen.client.documents import (
    ServedInfo,
    ServedModel,
    data_url,
    hits_of,
    info_of,
    models_of,
    page_of,
    prediction_of,
    query_document,
    removed_of,
    row_of,
    vectors_of,
)
from tuwen.client.transport import Asked, Transport
from tuwen.client.uploads import Added, Upload, uploads, with_upload
from tuwen.errors import InvalidInput, NotFound, RejectedImages, TooLarge
from tuwen.index.calibration import Calibration
from tuwen.index.store import Stored, row_id
from tuwen.runtime.encoder import keyed_images
from tuwen.runtime.pipeline import AnyImage, ImageSource, Keyed, batched, prefetch
from tuwen.search.query import Operand, Query, RowId
from tuwen.types import Hit, Payload, Rejected, Vectors

PAGE = 500
"""rows per request when listing"""
TEXTS, IMAGES = 256, 4
"""texts and images per request when encoding"""
REQUESTS = 8
"""requests at a time when classifying: enough to fill the service's batches, few enough for its queue"""


class Client:
    """A service that `tuwen serve` runs. A context manager, or call `close`. Safe in several threads.

    All methods raise ServiceUnreachable, ServiceBusy, KeyRefused or another ServiceFault if the service cannot be
    reached or fails, and InvalidInput, with the service's own message, if it refuses a request. Requests to a busy
    service are retried after the time that it asks for, a few times and no longer than `timeout`.

    Attributes:
        url: the address of the service.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 30) -> None:
        """Create a client; it connects on the first request.

        Args:
            url: the address of the service, e.g. http://127.0.0.1:8000, with the path of a reverse proxy if it has one.
            key: the service's key, if it has one.
            timeout: seconds to wait for a connection, for each part of a response, and while the service is busy.

        Raises:
            InvalidInput: `url` is not an http or https address, or `key` is not printable ASCII.
        """
        self._transport = Transport(url, key, timeout)
        self.url = self._transport.url

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search(  # noqa: PLR0913  (the signature of Index.search)
        self,
        query: Operand | Query,
        k: int = 10,
        *,
        where: str | None = None,
        min_score: float | Literal["auto"] | None = None,
        exact: bool = False,
        diversity: float = 0.0,
        unique: float | None = None,
        sort: str | None = None,
    ) -> list[Hit]:
        """Find the rows that are nearest to a query, best first.

        Args:
            query: a text (`str`), an image file (`Path`), an image file's content, a Pillow image, a (dim,) vector,
                a row (a `Hit`, or its `RowId`); or a `Query` of several of these, with weights.
            k: the most hits to return.
            where: a filter, e.g. `width >= 1024 and folder == "2023"`.
            min_score: leave out hits of a lower cosine; `auto` for the threshold that `tuwen calibrate` measured.
            exact: compare with every row instead of searching the approximate index.
            diversity: 0 to 1, how much hits should differ from each other.
            unique: fold hits whose cosine to a better hit is at least this into that hit, see `Hit.similar`.
            sort: order the hits by a field of their rows, such as `taken`, or `-taken` for the newest first; None: best
                first.

        Raises:
            RejectedImages: an image file cannot be opened.
            InvalidInput: the service refuses the query, e.g. because an image is damaged.
        """
        limits = {
            "k": k,
            "where": where,
            "min_score": min_score,
            "exact": exact,
            "diversity": diversity,
            "unique": unique,
            "sort": sort,
        }
        return hits_of(self._post("/v1/recommend", query_document(query) | limits))

    def classify(
        self,
        image: AnyImage | Hit | RowId,
        labels: Sequence[str] = (),
        template: str | Sequence[str] = PLAIN,
        *,
        multi_label: bool = False,
        none_below: float | None = None,
        adapter: str | None = None,
    ) -> Prediction:
        """Classify one image, or one row of the index; `classifier` is for many.

        Args:
            image: a path, a file's content, a Pillow image, a `Hit` or a `RowId`.
            labels: see `Classifier`, as all further arguments.
            template: see `Classifier`.
            multi_label: see `Classifier`.
            none_below: see `Classifier.predict`.
            adapter: in place of labels, the name of an adapter that the service serves, see `tuwen serve --adapter`.

        Raises:
            NotFound: there is no such adapter.
            RejectedImages: the image cannot be read.
        """
        classifier = self.classifier(labels, template, multi_label=multi_label, adapter=adapter)
        found = classifier.of(image, _name(image), none_below)
        if isinstance(found, Rejected):
            raise RejectedImages([found])
        return found

    def classifier(
        self,
        labels: Sequence[str] = (),
        template: str | Sequence[str] = PLAIN,
        *,
        multi_label: bool = False,
        adapter: str | None = None,
    ) -> "ServedClassifier":
        """Create a zero-shot classifier that uses the service's model; see `Classifier`.

        Args:
            labels: at least one, all different.
            template: a sentence with one `_` or `{}` for the label, or several whose vectors are averaged.
            multi_label: judge each label by itself instead of against the others.
            adapter: in place of labels, the name of an adapter that the service serves; the labels are its classes.
        """
        return ServedClassifier(self._transport, labels, template, multi_label=multi_label, adapter=adapter)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts with the service's model: (n, dim) float32, every row of length 1."""
        if isinstance(texts, str):
            raise InvalidInput(f"a single text was given where a list is expected: write [{texts!r}]", value=texts)
        return self._encode(list(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS))

    def encode_images(self, images: Sequence[AnyImage]) -> Vectors:
        """Encode images with the service's model: (n, dim) float32, every row of length 1.

        Args:
            images: paths, files' contents, or Pillow images.

        Raises:
            RejectedImages: a file cannot be opened.
            InvalidInput: an image cannot be read.
        """
        if isinstance(images, str | bytes | Path | Image.Image):
            raise InvalidInput("a single image was given where a list is expected: put it into a list", value=images)
        parts = (images[start : start + IMAGES] for start in range(0, len(images), IMAGES))
        return self._encode([data_url(image) for image in part] for part in parts)

    def add(self, images: AnyImage | Sequence[AnyImage]) -> Added:
        """Upload images: files, folders, files' contents, Pillow images.

        When it returns, the images are on the disk of the service. The same image uploaded twice is one row. Images
        that cannot be read are listed in the result, with the reason.
        """
        *_, result = self.adding(images)
        return result

    def adding(self, images: AnyImage | Sequence[AnyImage]) -> Generator[Added]:
        """Upload images like `add`, and yield the result so far after every request."""
        several = [images] if isinstance(images, str | bytes | Path | Image.Image) else images
        start, result = monotonic(), Added()
        for upload in uploads(several):
            for sent, answer in self._sent(upload):
                result = with_upload(result, sent, answer, monotonic() - start)
                yield result

    def remove(self, rows: Sequence[str | Hit | RowId]) -> int:
        """Remove rows and return how many there were.

        Args:
            rows: keys (the `path` of a row), hits, or row ids.
        """
        if isinstance(rows, str):
            raise InvalidInput(f"a single key was given where a list is expected: write [{rows!r}]", value=rows)
        return sum(self._remove(_id(row)) for row in rows)

    def get(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Get rows by id, without their vectors; unknown ids are left out. A row's id is that of its `Hit`."""
        found = {}
        for ident in ids:
            with suppress(NotFound):
                found[ident] = row_of(self._transport.document("GET", f"{_path(ident)}/facts"))
        return found

    def payloads(self, keys: Sequence[str]) -> dict[str, Payload]:
        """Get payloads by key; unknown keys are left out."""
        ids = {key: str(row_id(key)) for key in keys}
        rows = self.get(list(ids.values()))
        return {key: rows[ident].payload for key, ident in ids.items() if ident in rows}

    def keys(self, where: str | None = None, sort: str = "path") -> Sequence[str]:
        """The keys of the rows, in the order of a field; with `where`, of those that match the filter."""
        return [str(row.payload["path"]) for row in self.list(where, sort)]

    def facets(self, by: str, where: str | None = None) -> dict[str, int]:
        """How many rows there are of each value, e.g. of each camera; see `Index.facets`."""
        params: dict[str, str | int] = {"by": by, **({} if where is None else {"where": where})}
        answer = self._transport.document("GET", "/v1/facets", Asked(params=params))
        return {str(facet["name"]): int(facet["rows"]) for facet in answer["facets"]}

    def picture(self, row: str | Hit | RowId) -> bytes:
        """Download the file of a row, unchanged. `row` is a key, a hit or a row id.

        Raises:
            NotFound: there is no such row, or its file is gone.
        """
        return self._transport.content(_path(_id(row)))

    def info(self) -> ServedInfo:
        """Facts about the service's index; `index` is the service's address."""
        return info_of(self._transport.document("GET", "/v1/index"), self.url)

    def calibration(self) -> Calibration | None:
        """The score thresholds that `tuwen calibrate` measured on the service's index; None if it has not."""
        return self.info().calibration

    def models(self) -> tuple[ServedModel, ...]:
        """The models of the service: one, that of its index."""
        return models_of(self._transport.document("GET", "/v1/models"))

    def list(self, where: str | None = None, sort: str = "path") -> Iterator[Stored]:
        """The rows in the order of a field, without their vectors; with `where`, those that match the filter."""
        params: dict[str, str | int] = {"k": PAGE, "sort": sort, **({} if where is None else {"where": where})}
        seen, total = 0, 1
        while seen < total:
            answer = self._transport.document("GET", "/v1/images", Asked(params=params | {"offset": seen}))
            rows, total = page_of(answer)
            yield from rows
            seen += PAGE

    def _post(self, path: str, document: Mapping[str, object]) -> Mapping[str, Any]:
        return self._transport.document("POST", path, Asked(json=document))

    def _encode(self, parts: Iterable[Sequence[str]]) -> Vectors:
        answers = [self._post("/v1/embeddings", {"input": part, "encoding_format": "base64"}) for part in parts]
        return vectors_of(answers) if answers else np.empty((0, self.models()[0].dim), np.float32)

    def _sent(self, upload: Upload) -> Iterator[tuple[Upload, Mapping[str, Any] | None]]:
        """Send an upload; yields it with its response. If it is too large for the service, send it file by file."""
        answer = None
        try:
            if upload.files:
                answer = self._transport.document("POST", "/v1/images", Asked(files=upload.form))
        except TooLarge as error:
            for part in upload.parts(str(error)):
                yield from self._sent(part)
        else:
            yield upload, answer

    def _remove(self, ident: str) -> int:
        try:
            return removed_of(self._transport.document("DELETE", _path(ident)))
        except NotFound:
            return 0


class ServedClassifier:
    """A `Classifier` whose images are sent to a service, a few requests at a time.

    Attributes:
        labels: the labels, as they were given; empty for an adapter.
        multi_label: whether each label is judged by itself.
        adapter: the name of the adapter that classifies; None: the labels do.
    """

    def __init__(
        self,
        transport: Transport,
        labels: Sequence[str],
        template: str | Sequence[str],
        *,
        multi_label: bool,
        adapter: str | None = None,
    ) -> None:
        self._transport = transport
        self.labels = tuple(labels)
        self.multi_label = multi_label
        self.adapter = adapter
        how = {"labels": list(labels)} if adapter is None or labels else {"adapter": adapter}
        self._asked = how | {
            "template": template if isinstance(template, str) else list(template),
            "multi_label": multi_label,
        }

    def predict(
        self, images: Path | str | Iterable[ImageSource], *, none_below: float | None = None
    ) -> list[Prediction]:
        """Classify images; see `Classifier.predict`.

        Raises:
            RejectedImages: some images cannot be read; the error lists all of them. `stream` continues without them.
        """
        batches = list(self.stream(images, none_below=none_below))
        rejected = [item for batch in batches for item in batch.rejected]
        if rejected:
            raise RejectedImages(rejected)
        return [prediction for batch in batches for prediction in batch.predictions]

    def stream(
        self, images: Path | str | Iterable[ImageSource], *, none_below: float | None = None
    ) -> Generator[Predictions]:
        """Classify any number of images in bounded memory; see `predict` and `Encoder.stream`."""

        def classify(item: Keyed[Any] | Rejected) -> Prediction | Rejected:
            return item if isinstance(item, Rejected) else self.of(item.image, item.name, none_below)

        with closing(prefetch(classify, keyed_images(images), threads=REQUESTS, depth=REQUESTS)) as found:
            for batch in batched(found, REQUESTS):
                yield Predictions(
                    tuple(item for item in batch if isinstance(item, Prediction)),
                    tuple(item for item in batch if isinstance(item, Rejected)),
                )

    def of(self, image: AnyImage | Hit | RowId, name: str, none_below: float | None) -> Prediction | Rejected:
        """Classify one image or row; the result may be the reason why it cannot be read. `name` is used for it."""
        try:
            what = {"id": image.id} if isinstance(image, Hit | RowId) else {"image": data_url(image)}
            asked = Asked(json=what | self._asked | ({} if none_below is None else {"none_below": none_below}))
            return prediction_of(self._transport.document("POST", "/v1/classify", asked), name)
        except RejectedImages as error:
            return Rejected(name, error.rejected[0].reason)
        except TooLarge as error:
            return Rejected(name, f"is too large for the service: {error}")


def _id(row: str | Hit | RowId) -> str:
    return str(row_id(row)) if isinstance(row, str) else row.id


def _path(ident: str) -> str:
    return f"/v1/images/{quote(ident, safe='')}"


def _name(image: AnyImage | Hit | RowId) -> str:
    if isinstance(image, Hit):
        return str(image.payload.get("path", image.id))
    if isinstance(image, RowId):
        return image.id
    return str(image) if isinstance(image, str | Path) else "image"
