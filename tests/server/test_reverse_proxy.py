"""A service below a path of a reverse proxy: links, assets, the OpenAPI description, origins; and real proxies."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from httpx2 import Client, ConnectError

from tuwen.runtime.encoder import Encoder

from .serving import Served, serving

GUIDES = [Path(__file__).parents[2] / "docs" / language / "deploy.md" for language in ("en", "zh")]
LINKED = re.compile(r'(?:src|href)="([^"#]+)"')


@pytest.fixture(scope="module")
def below(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that is told its path, and answers to the host name of a proxy."""
    place = tmp_path_factory.mktemp("below")
    with serving(encoder, photos, place, root_path="/photos", hosts=("photos.example",)) as running:
        yield running


@pytest.mark.parametrize(
    ("address", "headers", "prefix"),
    [
        ("/", {}, "/photos"),
        ("/photos/", {}, "/photos"),
        ("/", {"x-forwarded-prefix": "/other/place"}, "/other/place"),
        ("/", {"x-forwarded-prefix": "/photos/"}, "/photos"),
        ("/", {"x-forwarded-prefix": "//evil.example"}, "/photos"),
        ("/", {"x-forwarded-prefix": '/a" onload="'}, "/photos"),
    ],
)
def test_the_path_that_the_description_names(below: Served, address: str, headers: dict[str, str], prefix: str) -> None:
    document = below.client.get(f"{address}openapi.json", headers=headers).json()
    assert [one["url"] for one in document["servers"]] == [prefix]


@pytest.mark.parametrize("root", ["/", "/photos/"])
def test_every_link_stays_below_the_path(below: Served, root: str) -> None:
    for page in ("", "docs"):
        found = LINKED.findall(below.client.get(root + page).text)
        assert len(found) > 2
        for link in found:
            assert not link.startswith("/"), link
            assert below.client.get(urljoin(root + page, link)).status_code == 200, link
    assert below.client.get("/photos", follow_redirects=False).headers["location"].endswith("/photos/")


def test_addresses_in_answers_are_those_of_the_proxy(below: Served) -> None:
    headers = {"host": "photos.example", "x-forwarded-proto": "https"}
    (found,) = below.client.post("/knn-service", json={"text": "a", "num_images": 1}, headers=headers).json()
    assert found["url"] == f"https://photos.example/photos/v1/images/{found['id']}"


def test_errors_of_openai_below_the_path(below: Served) -> None:
    error = below.client.get("/photos/v1/models/nobody").json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", None)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "photos.example", "origin": "https://photos.example"}, 200),
        ({"x-forwarded-host": "photos.example", "origin": "https://photos.example"}, 200),
        ({"origin": "https://photos.example"}, 403),
        ({"x-forwarded-host": "photos.example", "origin": "https://evil.example"}, 403),
        ({"host": "evil.example", "x-forwarded-host": "photos.example"}, 421),
    ],
)
def test_the_page_behind_a_proxy_may_search(below: Served, headers: dict[str, str], status: int) -> None:
    assert below.client.post("/v1/search", json={"text": "a"}, headers=headers).status_code == status


@pytest.mark.parametrize("guide", GUIDES, ids=["en", "zh"])
@pytest.mark.parametrize("proxy", ["nginx", "caddy", "traefik"])
def test_the_recipes(guide: Path, served: Served, tmp_path: Path, proxy: str) -> None:
    """The recipes of the guide, with their addresses replaced and without TLS."""
    program = shutil.which(proxy)
    if program is None:
        pytest.skip(f"{proxy} is not installed")
    port = free_port()
    words = CONFIGURED[proxy](guide.read_text(encoding="utf-8"), port, served.url.rstrip("/"), tmp_path)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    with (
        subprocess.Popen([program, *words], env=environment) as running,
        Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            wait_for(client)
            assert client.get("/photos", follow_redirects=False).status_code in (301, 302)
            docs = client.get("/photos/docs")
            for link in LINKED.findall(docs.text):
                assert client.get(urljoin("/photos/docs", link)).status_code == 200, link
            assert client.get("/photos/openapi.json").json()["servers"] == [{"url": "/photos"}]
            asked = {"origin": f"http://127.0.0.1:{port}"}
            hits = client.post("/photos/v1/search", json={"text": "a", "k": 1}, headers=asked).json()["hits"]
            assert client.get(f"/photos/v1/images/{hits[0]['id']}/thumbnail").status_code == 200
            large = client.post("/photos/v1/images", files=[("files", ("a.png", b"x" * 3_000_000))], headers=asked)
            assert (large.status_code, len(large.json()["rejected"])) == (200, 1)
        finally:
            running.terminate()


def nginx(guide: str, port: int, url: str, place: Path) -> list[str]:
    """How nginx is run with the recipe."""
    (recipe,) = re.findall(r"```nginx\n(.*?)```", guide, re.DOTALL)
    recipe = recipe.replace("http://127.0.0.1:8000", url).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    recipe = re.sub(r"\n *ssl_certificate\w* .*;", "", recipe)
    folders = "".join(f"{it}_temp_path {place};" for it in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (place / "nginx.conf").write_text(
        f"{user} daemon off; pid {place}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders}\n{recipe} }}"
    )
    return ["-p", str(place), "-e", "stderr", "-c", str(place / "nginx.conf")]


def caddy(guide: str, port: int, url: str, place: Path) -> list[str]:
    """How Caddy is run with the recipe."""
    (recipe,) = re.findall(r"(# Caddyfile\n.*?)```", guide, re.DOTALL)
    recipe = recipe.replace("photos.example {", f"http://127.0.0.1:{port} {{")
    recipe = recipe.replace("reverse_proxy 127.0.0.1:8000", f"reverse_proxy {url}")
    (place / "Caddyfile").write_text(f"{{\n    admin off\n}}\n{recipe}", encoding="utf-8")
    return ["run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]


def traefik(guide: str, port: int, url: str, place: Path) -> list[str]:
    """How Traefik is run with the recipe."""
    (recipe,) = re.findall(r"```yaml\n(# Traefik.*?)```", guide, re.DOTALL)
    recipe = recipe.replace("photos.example", "127.0.0.1").replace("http://127.0.0.1:8000", url)
    (place / "dynamic.yaml").write_text(recipe.replace("      tls: {}\n", ""), encoding="utf-8")
    return [
        f"--entryPoints.websecure.address=127.0.0.1:{port}",
        f"--providers.file.filename={place / 'dynamic.yaml'}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]


CONFIGURED = {"nginx": nginx, "caddy": caddy, "traefik": traefik}


def wait_for(client: Client) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            assert client.get("/photos/health/live").status_code == 200
        except (ConnectError, AssertionError):  # Traefik reads its recipe only after it listens
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
