"""`tuwen serve`, as a person runs it: begun, asked, ended."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from httpx2 import Client

from tuwen.demo import demo_gallery

from .conftest import Terminal

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    command = [sys.executable, "-m", "tuwen", "index", "build", str(demo_gallery() / "food-and-drink")]
    command += ["--index", str(folder / "i.tuwen"), "--model", "demo", "--progress", "none"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "i.tuwen"


@contextmanager
def service(terminal: Terminal, index: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A running service that has said where it is; ended the hard way if it is running still at the end."""
    with terminal.start("serve", "--index", index, "--port", 0, "--no-open", "--json", *options) as process:
        try:
            printed = ""
            while not printed.endswith("}\n"):
                printed += process.stdout.readline()
            assert json.loads(printed).keys() == {"url", "docs", "key", "write"}
            with Client(base_url=json.loads(printed)["url"], timeout=60) as client:
                yield process, client
        finally:
            process.kill()


def test_begun_asked_and_ended(terminal: Terminal, index: Path) -> None:
    with service(terminal, index) as (process, client):
        assert client.get("/health/ready").json() == {"status": "ready"}
        hits = client.post("/v1/search", json={"text": "ein roter Apfel", "k": 3}).json()["hits"]
        assert len(hits) == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        log = process.stderr.read()
    assert "Apfel" not in log
    assert '"route": "/v1/search"' in log
    assert "Traceback" not in log


def test_ctrl_c(terminal: Terminal, index: Path) -> None:
    with service(terminal, index, "--log", "none") as (process, client):
        assert client.get("/health/live").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().strip() == "tuwen: stopped"


def test_queries_are_logged_where_asked(terminal: Terminal, index: Path) -> None:
    with service(terminal, index, "--log", "queries") as (process, client):
        client.post("/v1/search", json={"text": "an apple"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert '"query": "an apple"' in process.stderr.read()


def test_pictures_that_are_elsewhere(terminal: Terminal, index: Path, tmp_path: Path) -> None:
    """The folder is not where it was: nothing can be added to it, searching works; --root says where it is now."""
    moved = tmp_path / "moved.tuwen"
    shutil.copytree(index, moved)
    (moved / "index.json").write_text(
        re.sub(r'"root": "[^"]*"', '"root": "/nowhere/photos"', (moved / "index.json").read_text(encoding="utf-8")),
        encoding="utf-8",
    )
    ended = terminal.type("serve", "--index", moved, "--no-open", "--port", 0, "--allow-upload", code=2)
    assert "/nowhere/photos" in ended.err
    assert "--root" in ended.err
    for options, status in (((), 404), (("--root", demo_gallery() / "food-and-drink"), 200)):
        with service(terminal, moved, *options, "--log", "none") as (process, client):
            (hit,) = client.post("/v1/search", json={"text": "a red apple", "k": 1}).json()["hits"]
            assert client.get(f"/v1/images/{hit['id']}").status_code == status
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert ("--root" in process.stderr.read()) is (status == 404)


@pytest.mark.parametrize(
    ("options", "code", "names"),
    [
        (["--host", "0.0.0.0"], 2, "--key"),
        (["--key", "short"], 2, "key"),
        (["--host", "203.0.113.7", "--insecure"], 2, "203.0.113.7"),
        (["--index", "nowhere.tuwen"], 1, "nowhere.tuwen"),
    ],
)
def test_what_cannot_be_served(terminal: Terminal, index: Path, options: list[str], code: int, names: str) -> None:
    ended = terminal.type("serve", "--index", index, "--no-open", "--port", 0, *options, code=code)
    assert names in ended.err
    assert len(ended.err.splitlines()) == 1
