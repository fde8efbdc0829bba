"""A model hub on loopback, with the real one's answers: what a repository holds, redirects to where large files
lie, ranges, refusals; it cuts connections and fails when told to."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

LARGE = 2000
"""From so many bytes a file lies elsewhere and is known by its sha256, as with Git LFS."""


@dataclass
class Seen:
    method: str
    path: str
    range: str | None
    token: str | None
    agent: str


@dataclass
class Hub:
    """The state of the hub: what it holds, what it shall do wrong, what it was asked."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, str] = field(default_factory=dict)  # repository to token
    gated: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)  # after so many bytes of a body the connection is cut
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # the next answers
    always: int | None = None  # the status of every answer
    altered: bool = False  # other bytes are sent than are announced
    ranges: bool = True
    slow: threading.Event | None = None  # a body stops half way until this is set
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    def add(self, name: str, files: dict[str, bytes]) -> None:
        self.repositories[name] = files

    def add_folder(self, name: str, folder: Path) -> None:
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        self.add(name, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    def bodies(self) -> list[Seen]:
        """The requests for bytes of files."""
        return [seen for seen in self.seen if seen.method == "GET" and "/api/" not in seen.path]


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sibling(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob_id(data)}
    if len(data) >= LARGE:
        entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        token, agent = self.headers.get("Authorization"), self.headers.get("User-Agent", "")
        self.hub.seen.append(Seen(self.command, self.path, self.headers.get("Range"), token, agent))
        if self.hub.always is not None:
            return self.send(self.hub.always, b"")
        if self.hub.refusals:
            status, headers = self.hub.refusals.pop(0)
            return self.send(status, b"", headers)
        path = urlsplit(self.path).path.lstrip("/")
        if path.startswith("cdn/"):
            return self.send_file(path.removeprefix("cdn/"))
        if path.startswith("api/models/"):
            return self.send_model(path.removeprefix("api/models/"))
        return self.resolve(path)

    def allowed(self, name: str) -> bool:
        if name not in self.hub.repositories:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif name in self.hub.gated:
            self.send(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif name in self.hub.private and self.headers.get("Authorization") != f"Bearer {self.hub.private[name]}":
            self.send(401, b"", {"X-Error-Message": "Invalid username or password."})
        else:
            return True
        return False

    def send_model(self, name: str) -> None:
        if not self.allowed(name):
            return
        files = self.hub.repositories[name]
        siblings = [sibling(path, data) for path, data in files.items()]
        document = {"_id": "0" * 24, "id": name, "modelId": name, "sha": commit_of(files), "private": False}
        self.send(200, json.dumps(document | {"siblings": siblings}).encode(), {"Content-Type": "application/json"})

    def resolve(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        if not self.allowed(name):
            return None
        files = self.hub.repositories[name]
        if revision not in ("main", commit_of(files)):
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if file not in files:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = files[file]
        headers = {"X-Repo-Commit": commit_of(files), "Accept-Ranges": "bytes"}
        if len(data) < LARGE:
            return self.send_bytes(data, headers | {"ETag": f'"{blob_id(data)}"'})
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256(data)}"'}
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # another host: tokens are not for it
        place = f"{elsewhere}/cdn/{sha256(data)}"
        return self.send(302, b"", headers | linked | {"Location": place, "ETag": f'"{sha256(data)}"'})

    def send_file(self, digest: str) -> None:
        every = (data for files in self.hub.repositories.values() for data in files.values())
        data = next(data for data in every if sha256(data) == digest)
        self.send_bytes(data, {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"})

    def send_bytes(self, data: bytes, headers: dict[str, str]) -> None:
        total, status = len(data), 200
        if self.hub.altered:
            data = bytes(len(data))
        asked = self.headers.get("Range")
        if asked and self.hub.ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            data, status = data[start:], 206
            headers = headers | {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        self.send(status, data, headers)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.slow is not None and len(body) >= LARGE:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.slow.wait(30)
            body = body[len(body) // 2 :]
        if self.hub.cuts and len(body) >= LARGE:
            self.wfile.write(body[: self.hub.cuts.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that was killed
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
