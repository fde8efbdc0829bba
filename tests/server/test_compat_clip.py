"""clip-retrieval's requests, as its own client sends them, and that client itself in an environment of its own."""

import base64
import json
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from httpx2 import Client

from tuwen.index.store import row_id
from tuwen.runtime.encoder import Encoder
from tuwen.types import Row

from .serving import Served

DEFAULTS = {
    "image": None,
    "image_url": None,
    "embedding_input": None,
    "deduplicate": True,
    "use_safety_model": True,
    "use_violence_detector": True,
    "indice_name": "photos",
    "use_mclip": False,
    "aesthetic_score": 9,
    "aesthetic_weight": 0.5,
    "modality": "image",
    "num_images": 40,
    "num_result_ids": 40,
}
"""what the client sends whether one asks for it or not"""


def ask(client: Client, **asked: object) -> list[dict[str, object]]:
    """As `requests.post(url, data=json.dumps(…))` does: with no content type."""
    answer = client.post("/knn-service", content=json.dumps({"text": None, **DEFAULTS, **asked}))
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: Client, page: str = "/knn-service", **asked: object) -> int:
    answer = client.post(page, content=json.dumps(asked))
    assert answer.json()["error"]["status"] == answer.status_code
    return answer.status_code


def test_by_text(client: Client, served: Served, encoder: Encoder) -> None:
    found = ask(client, text="a red apple", deduplicate=False, num_images=3, num_result_ids=5)
    hits = served.index.search(encoder.encode_texts(["a red apple"])[0], k=5)
    assert [row["id"] for row in found] == [hit.id for hit in hits]
    assert np.allclose([row["similarity"] for row in found], [hit.score for hit in hits], atol=1e-4)
    assert [row.get("image_path") for row in found] == [*(hit.payload["path"] for hit in hits[:3]), None, None]
    assert client.get(found[0]["url"]).content == (served.root / found[0]["image_path"]).read_bytes()


def test_by_picture_and_by_vector(client: Client, served: Served, encoder: Encoder, photos: Path) -> None:
    picture = sorted(photos.rglob("*.*"))[5]
    key = f"{picture.parent.name}/{picture.name}"
    sent = base64.b64encode(picture.read_bytes()).decode()
    assert ask(client, image=sent)[0]["image_path"] == key
    vector = (encoder.encode_images([picture])[0] * 3).tolist()
    (best, *_) = ask(client, embedding_input=vector)
    assert best["image_path"] == key
    assert best["similarity"] == pytest.approx(1, abs=1e-4)


def test_duplicates_are_left_out(client: Client, served: Served, encoder: Encoder) -> None:
    vector = encoder.encode_texts(["nothing else is like this"])[0]
    facts = {"content": "0", "width": 1, "height": 1}
    served.index.upsert([Row(f"twin-{number}.png", vector, facts) for number in range(2)])
    try:
        both = ask(client, embedding_input=vector.tolist(), deduplicate=False)
        assert [row["image_path"] for row in both[:2]] == ["twin-0.png", "twin-1.png"]
        paths = [row["image_path"] for row in ask(client, embedding_input=vector.tolist())]
        assert "twin-0.png" in paths
        assert "twin-1.png" not in paths
    finally:
        served.index.remove(["twin-0.png", "twin-1.png"])


def test_texts_are_another_modality(client: Client, served: Served, encoder: Encoder) -> None:
    vector = encoder.encode_texts(["a caption"])[0]
    served.index.upsert([Row("caption-1", vector, {"type": "text", "text": "a caption", "content": "0"})])
    try:
        (only,) = ask(client, text="a caption", modality="text")
        assert (only["caption"], only["id"]) == ("a caption", str(row_id("caption-1")))
        assert only["id"] not in {row["id"] for row in ask(client, text="a caption")}
    finally:
        served.index.remove(["caption-1"])


def test_names_and_metadata(client: Client, served: Served) -> None:
    assert client.get("/indices-list").json() == client.post("/indices-list").json() == ["photos"]
    row = next(served.index.list())
    asked = {"ids": [row.id, "nobody"], "indice_name": "photos"}
    (found,) = client.post("/metadata", content=json.dumps(asked)).json()
    assert found["id"] == row.id
    assert found["metadata"]["image_path"] == row.payload["path"]
    assert client.post("/metadata", content=json.dumps({"ids": []})).json() == []


def test_what_is_refused(client: Client, encoder: Encoder) -> None:
    assert refused(client, text="apple", indice_name="laion5B") == 404
    assert refused(client, "/metadata", ids=["a"], indice_name="x") == 404
    for asked in (
        {},
        {"text": "apple", "image": "AAAA"},
        {"text": "apple", "embedding_input": [1.0]},
        {"text": " "},
        {"embedding_input": [1, 2, 3]},
        {"embedding_input": [0.0] * encoder.dim},
        {"image": "?"},
        {"text": "apple", "num_images": 0},
    ):
        assert refused(client, **asked) == 422, asked
    assert client.post("/knn-service", content=b"{").status_code == 422
    assert client.post("/knn-service", content=b"\xff").status_code == 400


THEIRS = """
import json, sys
from clip_client import ClipClient, Modality
client = ClipClient(url=sys.argv[1] + "knn-service", indice_name="photos", num_images=6, modality=Modality.IMAGE)
with open(sys.argv[2]) as file:
    vector = json.load(file)
queries = ({"text": "a red apple"}, {"image": sys.argv[3]}, {"embedding_input": vector})
print(json.dumps([client.query(**query) for query in queries]))
"""


@pytest.mark.long
@pytest.mark.enable_socket
def test_their_own_client(served: Served, encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    python = own_environment(tmp_path)
    picture = sorted(photos.rglob("*.*"))[5]
    (tmp_path / "vector.json").write_text(json.dumps(encoder.encode_images([picture])[0].tolist()))
    (tmp_path / "ask.py").write_text(THEIRS)
    line = [python, tmp_path / "ask.py", served.url, tmp_path / "vector.json", picture]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    by_text, by_picture, by_vector = json.loads(done.stdout)
    assert by_text[0]["id"] == served.index.search(encoder.encode_texts(["a red apple"])[0], k=1)[0].id
    key = f"{picture.parent.name}/{picture.name}"
    assert by_picture[0]["image_path"] == by_vector[0]["image_path"] == key
    assert len(by_text) <= 6


def own_environment(folder: Path) -> Path:
    """A Python with clip-retrieval's client module and the one package that it imports.

    The whole package pins numpy below 2 and brings torch and autofaiss, none of which its client touches.
    """
    venv.create(folder / "theirs", with_pip=True)
    python = folder / "theirs" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for line in (["install", "requests"], ["install", "--no-deps", "clip-retrieval==2.45.0"]):
        done = subprocess.run([*pip, *line], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the package registry cannot be reached: {done.stderr.splitlines()[-1:]}")
    (module,) = (folder / "theirs").glob("lib/*/site-packages/clip_retrieval/clip_client.py")
    module.rename(folder / module.name)  # the package's own __init__ would import all of it
    return python
