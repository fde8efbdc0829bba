"""The half of a client that changes nothing: searching, labelling, encoding by the service.

Knows the paths of these and what they are asked with. Does not know connections: see `transport.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tuwen.client.answers import ServedModel, hits_of, labels_of, models_of, vectors_of
from tuwen.client.pictures import data_url
from tuwen.client.terms import AnyTerm, id_of, term_document
from tuwen.client.transport import Asked, Transport
from tuwen.errors import InvalidInput
from tuwen.runtime.decoding import AnyImage
from tuwen.tasks.classify import Label
from tuwen.types import Hit, Vectors

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
        templates = (
            {} if template is None else {"template": template if isinstance(template, str) else list(template)}
        )
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
