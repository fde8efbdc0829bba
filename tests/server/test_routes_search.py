import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from httpx2 import Client

import tuwen
from cli.running import run
from tuwen.errors import InvalidInput, NotFound, WrongModel
from tuwen.runtime.encoder import Encoder
from tuwen.server.app import make_app
from tuwen.server.config import ServerConfig

from .serving import Served, serving


def test_a_text_finds_what_the_index_finds(served: Served, encoder: Encoder) -> None:
    answer = served.client.post("/v1/search", json={"text": "ein roter Apfel", "k": 5})
    hits = served.index.search(encoder.encode_texts(["ein roter Apfel"])[0], k=5)
    assert answer.status_code == 200
    assert answer.json()["query"] == "ein roter Apfel"
    assert answer.json()["model"] == encoder.name
    assert [(hit["id"], hit["payload"]) for hit in answer.json()["hits"]] == [(hit.id, hit.payload) for hit in hits]
    assert [hit["score"] for hit in answer.json()["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_pages_of_hits_are_parts_of_one_list(client: Client) -> None:
    whole = client.post("/v1/search", json={"text": "a cat", "k": 12}).json()["hits"]
    second = client.post("/v1/search", json={"text": "a cat", "k": 5, "offset": 5}).json()["hits"]
    assert [hit["id"] for hit in second] == [hit["id"] for hit in whole[5:10]]


def test_a_picture_finds_itself(served: Served) -> None:
    row = next(iter(served.index.list()))
    picture = (served.root / str(row.payload["path"])).read_bytes()
    encoded = base64.b64encode(picture).decode()
    for image in (encoded, f"data:image/webp;base64,{encoded}"):
        (hit,) = served.client.post("/v1/search", json={"image": image, "k": 1}).json()["hits"]
        assert hit["id"] == row.id
        assert hit["score"] == pytest.approx(1, abs=1e-4)


def test_filters_and_thresholds(client: Client) -> None:
    asked = {"text": "food", "where": 'folder == "food-and-drink"', "min_score": 0.2, "k": 100}
    hits = client.post("/v1/search", json=asked).json()["hits"]
    assert {hit["payload"]["folder"] for hit in hits} == {"food-and-drink"}
    assert all(hit["score"] >= 0.2 for hit in hits)


def test_like_and_unlike(served: Served) -> None:
    first, second = (row.id for _, row in zip(range(2), served.index.list(), strict=False))
    stored = served.index.vectors([first, second])
    total = stored[first].astype(np.float64) - stored[second]
    best = served.index.search((total / np.linalg.norm(total)).astype(np.float32), k=4)
    asked = {"like": [first], "unlike": [second], "k": 3}
    hits = served.client.post("/v1/search", json=asked).json()["hits"]
    assert [hit["id"] for hit in hits] == [hit.id for hit in best if hit.id not in (first, second)][:3]


def test_recommend_takes_weights_and_all_kinds(served: Served) -> None:
    row = next(iter(served.index.list()))
    asked = {"like": [{"id": row.id, "weight": 0.5}, {"text": "a dog"}], "unlike": [{"text": "a cat"}], "k": 3}
    answer = served.client.post("/v1/recommend", json=asked)
    assert answer.status_code == 200
    assert len(answer.json()["hits"]) == 3
    assert row.id not in [hit["id"] for hit in answer.json()["hits"]]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"text": ""},
        {"text": "   "},
        {"text": "\ud800"},
        {"text": "a", "k": 0},
        {"text": "a", "depth": 1},
        {"text": "a", "where": "colour == 1"},
        {"image": "no picture!"},
        {"image": "data:image/png,abc"},
        {"image": "AAAA"},
    ],
)
def test_what_cannot_be_looked_for(client: Client, asked: dict[str, object]) -> None:
    body = json.dumps(asked).encode()
    answer = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["code"]) == (422, 422, "invalid_request")


def test_a_row_that_is_not_there(client: Client) -> None:
    answer = client.post("/v1/search", json={"like": ["nobody"]})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"


def test_classify_by_row_and_by_picture(served: Served) -> None:
    row = next(row for row in served.index.list('folder == "food-and-drink"'))
    data = base64.b64encode((served.root / str(row.payload["path"])).read_bytes()).decode()
    labels = {"labels": ["food", "a flag"], "template": ["a photo of _", "{}"]}
    stored = served.client.post("/v1/classify", json={"id": row.id, **labels}).json()
    given = served.client.post("/v1/classify", json={"image": data, **labels}).json()
    assert stored["images"][0]["path"] == row.payload["path"]
    assert given["images"][0]["path"] == "image"
    best, other = stored["images"][0]["labels"]
    assert best["label"] == "food"
    assert best["probability"] + other["probability"] == pytest.approx(1)
    for one, two in zip(stored["images"][0]["labels"], given["images"][0]["labels"], strict=True):
        assert one["label"] == two["label"]
        assert one["cosine"] == pytest.approx(two["cosine"], abs=1e-3)


def test_a_picture_that_cannot_be_classified_is_rejected(client: Client) -> None:
    answer = client.post("/v1/classify", json={"image": "AAAA", "labels": ["a", "b"]})
    assert answer.status_code == 200
    assert answer.json()["images"] == []
    assert [one["path"] for one in answer.json()["rejected"]] == ["image"]


def test_a_picture_is_classified_with_a_template_at_least(client: Client) -> None:
    answer = client.post("/v1/classify", json={"image": "AAAA", "labels": ["a", "b"], "template": []})
    assert answer.status_code == 422


@pytest.fixture(scope="module")
def learnt(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter for the groups of the collection."""
    folder = tmp_path_factory.mktemp("learnt") / "groups"
    tuwen.adapt(encoder, photos, method="gda").save(folder)
    return folder


def test_classify_by_an_adapter(encoder: Encoder, photos: Path, learnt: Path, tmp_path: Path) -> None:
    classifier = tuwen.Classifier.load(learnt, encoder)
    picture = sorted((photos / "flags").iterdir())[0]
    with serving(encoder, photos, tmp_path, adapters=(learnt,)) as served, tuwen.Client(served.url) as client:
        (known,) = served.client.get("/v1/index").json()["adapters"]
        assert known == {"name": "groups", "classes": list(classifier.labels), "method": "gda"}
        (here,) = classifier.predict([picture])
        there = client.classify(picture, adapter="groups")
        assert [label.label for label in there.labels] == [label.label for label in here.labels]
        assert there.labels[0].probability == pytest.approx(here.labels[0].probability, abs=1e-3)
        assert client.classify(picture, adapter="groups", none_below=1).none
        row = next(row for row in served.index.list('folder == "flags"'))
        answer = served.client.post("/v1/classify", json={"id": row.id, "adapter": "groups"})
        assert answer.json()["images"][0].keys() == {"path", "labels", "none"}
        with pytest.raises(NotFound):
            client.classify(picture, adapter="others")
        for wrong in ({"labels": ["a"]}, {"multi_label": True}, {"template": "a _"}):
            answer = served.client.post("/v1/classify", json={"id": row.id, "adapter": "groups", **wrong})
            assert answer.status_code == 422
        ended = run("classify", picture, "--adapter", "groups", "--url", served.url, "--json")
        assert ended.exit_code == 0, ended.stderr
        assert json.loads(ended.stdout)["images"][0]["labels"][0]["label"] == here.labels[0].label


def test_adapters_that_cannot_be_served(encoder: Encoder, learnt: Path, tmp_path: Path) -> None:
    shutil.copytree(learnt, tmp_path / "groups")
    for folders, value in (((learnt, tmp_path / "groups"), "groups"), ((tmp_path,), tmp_path)):
        with pytest.raises(InvalidInput) as caught:
            make_app(ServerConfig(cache=tmp_path, adapters=folders), encoder, None)  # type: ignore[arg-type]
        assert caught.value.value == value
    facts = json.loads((learnt / "adapter.json").read_text(encoding="utf-8"))
    (tmp_path / "groups" / "adapter.json").write_text(json.dumps(facts | {"fingerprint": "0" * 16}), encoding="utf-8")
    with pytest.raises(WrongModel):
        make_app(ServerConfig(cache=tmp_path, adapters=(tmp_path / "groups",)), encoder, None)  # type: ignore[arg-type]
