"""Files aside and in place, and what kills leave."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from httpx2 import Client, TransportError

from tuwen.index.index import VectorIndex
from tuwen.runtime.encoder import Encoder
from tuwen.server.uploads import UploadedFiles
from tuwen.types import Row

from .serving import serving

CONTENT = "ab" * 32
KEY = UploadedFiles.key(CONTENT, "png")


@pytest.fixture
def index(encoder: Encoder, tmp_path: Path) -> Iterator[VectorIndex]:
    with VectorIndex.create(tmp_path / "i.tuwen", encoder=encoder, root=tmp_path) as made:
        yield made


def row() -> Row:
    vector = np.zeros(128, np.float32)
    vector[0] = 1
    facts = {"folder": "uploads", "name": KEY.split("/")[1], "content": CONTENT, "width": 1, "height": 1}
    return Row(KEY, vector, {"path": KEY, **facts, "format": "PNG", "bytes": 1, "modified": 1.0})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "uploads").iterdir())


def test_killed_before_the_row(index: VectorIndex, tmp_path: Path) -> None:
    uploads = UploadedFiles(tmp_path)
    uploads.stage(KEY, b"picture", time.time())
    uploads.mend(index)
    assert names(tmp_path) == []


def test_killed_after_the_row(index: VectorIndex, tmp_path: Path) -> None:
    uploads = UploadedFiles(tmp_path)
    uploads.stage(KEY, b"picture", time.time())
    index.upsert([row()])
    uploads.mend(index)
    assert (tmp_path / KEY).read_bytes() == b"picture"
    assert names(tmp_path) == [f"{CONTENT}.png"]


def test_killed_while_removing(index: VectorIndex, tmp_path: Path) -> None:
    uploads = UploadedFiles(tmp_path)
    index.upsert([row()])
    uploads.publish(uploads.stage(KEY, b"picture", time.time()), KEY)
    uploads.retract(KEY)
    assert not (tmp_path / KEY).exists()
    uploads.mend(index)  # the row is there still: the picture stays
    assert (tmp_path / KEY).read_bytes() == b"picture"
    uploads.retract(KEY)
    index.remove([KEY])
    uploads.mend(index)
    assert names(tmp_path) == []


def test_what_another_service_may_be_writing_is_left_alone(index: VectorIndex, tmp_path: Path) -> None:
    uploads = UploadedFiles(tmp_path)
    part = uploads.stage(KEY, b"picture", time.time())
    uploads.mend(index, grace=3600)
    assert part.exists()
    index.upsert([row()])
    uploads.publish(part, KEY)
    os.utime(tmp_path / KEY, (1, 1))
    taken = uploads.retract(KEY)
    uploads.mend(index, grace=3600)
    assert taken.exists(), "it was taken aside just now, however old the picture is"
    uploads.mend(index)
    assert (tmp_path / KEY).read_bytes() == b"picture"


def test_files_of_others_are_left_alone(index: VectorIndex, tmp_path: Path) -> None:
    uploads = UploadedFiles(tmp_path)
    folder = tmp_path / "uploads"
    folder.mkdir()
    mine = ["holiday.png", ".hidden.part", f"{CONTENT}.png", f".{CONTENT}.part", "a.png.x.part"]
    for name in mine:
        (folder / name).write_bytes(b"mine")
    uploads.mend(index)
    assert names(tmp_path) == sorted(mine)


@pytest.mark.parametrize(
    ("path", "content", "ours"),
    [
        (KEY, CONTENT, True),
        (KEY, "cd" * 32, False),
        (f"photos/{CONTENT}.png", CONTENT, False),
        (f"uploads/more/{CONTENT}.png", CONTENT, False),
        ("uploads/holiday.png", CONTENT, False),
    ],
)
def test_whose_a_file_is(path: str, content: str, ours: bool) -> None:
    assert UploadedFiles.owns({"path": path, "content": content}) is ours


KILLED = """
import os, sys
from pathlib import Path
import tuwen
from tuwen.server import config, uploads
from tuwen.server.app import make_app
from tuwen.server.serving import listen, server_of, address
place, when = Path(sys.argv[1]), sys.argv[2]
def die(*_):
    os.kill(os.getpid(), 9)
owner, name = when.split(".")
setattr({"Files": uploads.UploadedFiles, "VectorIndex": tuwen.Index}[owner], name, die)
encoder = tuwen.load("demo", threads=1)
with tuwen.Index.open(place / "photos.tuwen", encoder=encoder) as index:
    made = config.ServerConfig(cache=place / "cache", port=0, allow_upload=True, log="none")
    with listen(made) as listening:
        print(address(listening), flush=True)
        server_of(make_app(made, encoder, index)).run(sockets=[listening])
"""


@pytest.mark.parametrize("when", ["Files.stage", "VectorIndex.upsert", "Files.publish"])
def test_killed_between_the_file_and_the_row(when: str, encoder: Encoder, photos: Path, tmp_path: Path) -> None:
    picture = [("files", ("a.png", next(photos.rglob("*.webp")).read_bytes()))]
    with serving(encoder, photos, tmp_path) as before:
        rows = {row.id for row in before.index.list()}
    command = [sys.executable, "-c", KILLED, str(tmp_path), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        with Client(base_url=url, timeout=30) as client, pytest.raises(TransportError):
            client.post("/v1/images", files=picture)
        process.wait(10)
    assert process.returncode == -9
    with serving(encoder, photos, tmp_path, allow_upload=True) as after:
        left = {row.id for row in after.index.list()} - rows
        files = names(tmp_path / "photos") if (tmp_path / "photos" / "uploads").exists() else []
        assert len(left) == len(files) == (1 if when == "Files.publish" else 0)
        report = after.client.post("/v1/images", files=picture).json()
        (added,) = report["images"]
        assert after.client.get(f"/v1/images/{added['id']}").content == picture[0][1][1]
        assert {row.id for row in after.index.list()} - rows == {added["id"]}
        assert len(names(tmp_path / "photos")) == 1
