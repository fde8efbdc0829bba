"""`/v1/embeddings`, called by OpenAI's own client."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from httpx2 import Client

from tuwen.runtime.encoder import Encoder

from .serving import Served

if TYPE_CHECKING:  # each worker of the tests collects this file, and one runs it
    import openai

TEXTS = ["a red apple", "一只狗", "data: the new oil"]


@pytest.fixture(scope="module")
def api(served: Served) -> "Iterator[openai.OpenAI]":
    import openai

    with openai.OpenAI(base_url=f"{served.url}v1", api_key="none-is-needed", max_retries=0) as api:
        yield api


def test_texts(api: "openai.OpenAI", encoder: Encoder) -> None:
    import openai

    here = encoder.encode_texts(TEXTS)
    for encoding in ("float", "base64", openai.omit):
        found = api.embeddings.create(model=encoder.name, input=TEXTS, encoding_format=encoding)
        rows = [_numbers(item.embedding) for item in found.data]
        assert np.abs(np.array(rows) - here).max() < 1e-5
        assert [item.index for item in found.data] == [0, 1, 2]
    assert found.model == encoder.name
    assert found.usage.prompt_tokens == encoder.to_tokens(TEXTS).lengths.sum() == found.usage.total_tokens


def _numbers(embedding: list[float] | str) -> np.ndarray:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    return np.array(embedding)


def test_one_text_and_the_right_dimensions(api: "openai.OpenAI", encoder: Encoder) -> None:
    found = api.embeddings.create(model=encoder.name, input="a red apple", dimensions=encoder.dim, user="me")
    assert np.abs(np.array(found.data[0].embedding) - encoder.encode_texts(["a red apple"])[0]).max() < 1e-5


def test_pictures_beside_texts(api: "openai.OpenAI", encoder: Encoder, photos: Path) -> None:
    picture = sorted(photos.rglob("*.*"))[0]
    url = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    found = api.embeddings.create(model=encoder.name, input=["a red apple", url, "night"])
    here = [encoder.encode_texts(["a red apple"])[0], encoder.encode_images([picture])[0]]
    assert np.abs(np.array([item.embedding for item in found.data[:2]]) - here).max() < 1e-5
    assert found.usage.prompt_tokens == encoder.to_tokens(["a red apple", "night"]).lengths.sum()


def test_more_than_a_batch(api: "openai.OpenAI", encoder: Encoder) -> None:
    texts = [f"apple number {number}" for number in range(70)]
    found = api.embeddings.create(model=encoder.name, input=texts)
    assert np.abs(np.array([item.embedding for item in found.data]) - encoder.encode_texts(texts)).max() < 1e-5


@pytest.mark.parametrize(
    "asked",
    [
        {"input": [1, 2, 3]},
        {"input": [[1, 2], [3]]},
        {"input": "apple", "dimensions": 7},
        {"input": ["apple", " "]},
        {"input": "x" * 5000},
        {"input": "data:image/png;base64,AAAA"},
        {"input": "data:image/png;base64,A"},
    ],
)
def test_what_is_refused(api: "openai.OpenAI", encoder: Encoder, asked: dict[str, object]) -> None:
    import openai

    with pytest.raises(openai.UnprocessableEntityError) as refused:
        api.embeddings.create(model=encoder.name, **asked)
    assert (refused.value.type, refused.value.code) == ("invalid_request_error", "invalid_request")


def test_an_address_is_never_encoded_as_a_text(api: "openai.OpenAI", encoder: Encoder) -> None:
    import openai

    with pytest.raises(openai.PermissionDeniedError) as refused:
        api.embeddings.create(model=encoder.name, input=["apple", "https://example.org/cat.jpg"])
    assert refused.value.code == "no_urls"


def test_names_of_the_model(api: "openai.OpenAI", client: Client, encoder: Encoder) -> None:
    import openai

    assert [model.id for model in api.models.list()] == [encoder.name]
    for name in (encoder.name, "demo"):
        assert api.models.retrieve(name).id == encoder.name
        assert api.embeddings.create(model=name, input="apple").model == encoder.name
    for refuse in (
        lambda: api.embeddings.create(model="text-embedding-3-small", input="apple"),
        lambda: api.models.retrieve("text-embedding-3-small"),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            refuse()
        assert refused.value.code == "not_found"
    assert client.post("/v1/embeddings", json={"input": "apple", "encoding_format": None}).is_success


@pytest.mark.parametrize("asked", [{}, {"input": []}, {"input": {}}, {"input": "a", "encoding_format": "int8"}, []])
def test_requests_that_are_none(client: Client, asked: object) -> None:
    answer = client.post("/v1/embeddings", json=asked)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
