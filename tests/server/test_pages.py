"""The page's files as they are sent: small, checked again at each visit, and no others."""

import re

import pytest
from httpx2 import Client

from tuwen.server.app import WEB

MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
NAMES = sorted(path.name for path in WEB.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_sent_whole(client: Client, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.content == (WEB / name).read_bytes()
    assert answer.headers["content-type"] == MEDIA[(WEB / name).suffix]
    plain = client.get(f"/static/{name}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content


def test_the_page_and_its_mark(client: Client) -> None:
    assert client.get("/").content == (WEB / "index.html").read_bytes()
    assert client.get("/favicon.ico").content == (WEB / "favicon.svg").read_bytes()
    assert client.get("/docs").content == (WEB / "docs.html").read_bytes()


def test_what_has_not_changed_is_not_sent_again(client: Client) -> None:
    first = client.get("/static/main.js")
    again = client.get("/static/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["content-encoding"] == "gzip"
    assert first.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["__init__.py", "../app.py", "web", "", "index.html%00"])
def test_there_is_no_other_file(client: Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_no_script_stands_in_the_page_and_nothing_comes_from_elsewhere() -> None:
    for name in NAMES:
        text = (WEB / name).read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son[a-z]+=\"|\sstyle=\"|javascript:", text), name
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name


def test_both_languages_say_the_same_things() -> None:
    """The same keys in the same order, with the same places in each text, and every key that the page uses."""
    english, chinese = (said(name) for name in ("words.en.js", "words.zh.js"))
    assert list(english) == list(chinese)
    for key, places in english.items():
        assert places == chinese[key], key
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-(?:t|label|placeholder)="([^"]+)"', page)) <= set(english)


def said(name: str) -> dict[str, set[str]]:
    """The keys of a module of words, and the arguments that each text takes."""
    lines = re.findall(r'^  "?([\w-]+)"?: (.*),$', (WEB / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in lines}
