"""Several services of one index in a cluster, which is qdrant-client's local mode: what one writes, all show."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from httpx2 import Client
from PIL import Image

from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest
from tuwen.runtime.encoder import Encoder
from tuwen.server.config import ServerConfig

from .serving import Served, serving_index

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
PLACE = "qdrant://local:6333/photos"


@pytest.fixture(scope="module")
def root(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(photos, tmp_path_factory.mktemp("shared") / "photos"))


@pytest.fixture(scope="module")
def cluster(encoder: Encoder, root: Path) -> Iterator[None]:
    """An index of photos in one memory for all that connect, as a cluster has; it says that they are elsewhere."""
    from qdrant_client import QdrantClient

    class Staying(QdrantClient):
        def close(self, *_: object, **__: object) -> None:
            """What is in memory would be lost."""

    client = Staying(":memory:")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuwen.index.stores.qdrant_collection.connect", lambda _: client)
        with VectorIndex.create(PLACE, encoder=encoder, root=root) as index:
            for _ in ingest([root], encoder, index):
                pass
        yield
    QdrantClient.close(client)


@pytest.fixture(scope="module")
def replicas(
    cluster: None, encoder: Encoder, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Served]]:
    """Two services of it; to the second, the pictures' folder has another name."""
    mounted = tmp_path_factory.mktemp("mount") / "photos"
    mounted.symlink_to(root)
    folder = tmp_path_factory.mktemp("caches")
    one = ServerConfig(cache=folder / "1", port=0, log="none", allow_upload=True)
    two = ServerConfig(cache=folder / "2", port=0, log="none", allow_upload=True, root=mounted)
    with (
        VectorIndex.open(PLACE, encoder=encoder) as here,
        VectorIndex.open(PLACE, encoder=encoder) as there,
        serving_index(one, encoder, here) as first,
        serving_index(two, encoder, there) as second,
    ):
        yield first, second


COMMAND = """
import sys, warnings
from pathlib import Path
from qdrant_client import QdrantClient
import tuwen
from tuwen.cli.main import main
from tuwen.index.stores import qdrant_collection
from tuwen.ingest.images import ingest
warnings.simplefilter("ignore")
place, root, mount = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
class Staying(QdrantClient):
    def close(self, *_, **__): pass
client = Staying(":memory:")
qdrant_collection.connect = lambda _: client
encoder = tuwen.load("demo", threads=1)
with tuwen.Index.create(place, encoder=encoder, root=root) as index:
    for _ in ingest([root], encoder, index):
        pass
root.rename(mount)
sys.argv = ["tuwen", "serve", "--index", place, "--root", str(mount), "--model", "demo", "--threads", "1"]
sys.argv += ["--port", "0", "--no-open", "--json", "--allow-upload", "--log", "none"]
main()
"""


def test_the_command_serves_a_cluster(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    for picture in sorted(photos.rglob("*.webp"))[:5]:
        shutil.copy(picture, tmp_path / "built")
    command = [sys.executable, "-c", COMMAND, PLACE, str(tmp_path / "built"), str(tmp_path / "mounted")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            url = json.loads("".join(takewhile(lambda line: line != "}\n", process.stdout)) + "}")["url"]
            with Client(base_url=url, timeout=30) as client:
                rows = client.get("/v1/images").json()
                assert rows["total"] == 5
                assert all(client.get(f"/v1/images/{row['id']}").status_code == 200 for row in rows["rows"])
                (added,) = client.post("/v1/images", files=drawn("teal")).json()["images"]
                assert (tmp_path / "mounted" / added["path"]).read_bytes() == drawn("teal")[0][1][1]
        finally:
            process.terminate()
        assert process.wait(20) == 0


def drawn(colour: str) -> list[tuple[str, tuple[str, bytes]]]:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, format="PNG")
    return [("files", ("a.png", data.getvalue()))]


def test_they_are_one_index(replicas: tuple[Served, Served]) -> None:
    first, second = replicas
    facts = [one.client.get("/v1/index").json() for one in replicas]
    assert facts[0] == facts[1]
    assert (facts[0]["index"], facts[0]["store"], facts[0]["bytes"]) == (PLACE, "qdrant", None)
    asked = {"text": "a red apple", "k": 9}
    hits = [one.client.post("/v1/search", json=asked).json()["hits"] for one in replicas]
    assert hits[0] == hits[1]
    assert len(hits[0]) == 9
    ident = hits[0][0]["id"]
    files = [one.client.get(f"/v1/images/{ident}") for one in replicas]
    assert files[0].content == files[1].content == (first.root / hits[0][0]["payload"]["path"]).read_bytes()
    assert second.client.get(f"/v1/images/{ident}/thumbnail").headers["content-type"] == "image/webp"
    assert [one.client.get("/health/ready").status_code for one in replicas] == [200, 200]


def test_what_one_adds_and_removes_the_other_shows(replicas: tuple[Served, Served]) -> None:
    first, second = replicas
    before = second.client.get("/v1/images").json()["total"]
    (added,) = first.client.post("/v1/images", files=drawn("teal")).json()["images"]
    assert second.client.get(f"/v1/images/{added['id']}").content == drawn("teal")[0][1][1]
    (hit,) = second.client.post("/v1/search", json={"like": [added["id"]], "k": 1}).json()["hits"]
    assert hit["id"] != added["id"], "what is given is no answer"
    again = second.client.post("/v1/images", files=drawn("teal")).json()
    assert (again["indexed"], again["unchanged"]) == (0, 1)
    assert second.client.get("/v1/images").json()["total"] == before + 1
    assert second.client.get("/v1/index").json()["rows"] == before + 1
    assert second.client.delete(f"/v1/images/{added['id']}").json() == {"removed": 1}
    assert not (first.root / added["path"]).exists()
    for one in replicas:
        assert one.client.get(f"/v1/images/{added['id']}").status_code == 404
        assert one.client.get("/v1/images").json()["total"] == before


def test_one_that_starts_leaves_what_another_writes(
    replicas: tuple[Served, Served], encoder: Encoder, root: Path, tmp_path: Path
) -> None:
    content = "ab" * 32
    part = replicas[0].service.uploads._files.stage(f"uploads/{content}.png", b"half", 1.0)
    config = ServerConfig(cache=tmp_path, port=0, log="none", allow_upload=True)
    with VectorIndex.open(PLACE, encoder=encoder) as index, serving_index(config, encoder, index) as third:
        assert third.client.get("/health/ready").status_code == 200
        assert part.exists()
    part.unlink()
