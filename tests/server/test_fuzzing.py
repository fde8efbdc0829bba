"""Every route with inputs that nobody thought of, drawn from the service's description; and every odd picture."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tuwen.runtime.encoder import Encoder
from tuwen.server.app import make_app
from tuwen.server.config import ServerConfig

from .serving import Served, serving

if TYPE_CHECKING:  # each worker of the tests collects this file, and one runs it
    import schemathesis

STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
started: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Remember programs that are started."""
    if event in STARTS:
        started.append(f"{event} {arguments[0]}")


sys.addaudithook(watch)


@pytest.fixture(scope="module")
def fuzzed(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("fuzzed")
    with serving(encoder, photos, place, allow_upload=True, allow_url=True, deadline=20.0) as running:
        yield running


@pytest.fixture(scope="module")
def operations(fuzzed: Served) -> "list[schemathesis.APIOperation]":
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{fuzzed.url}openapi.json")
    return [operation.ok() for operation in schema.get_all_operations()]


def fuzz(operation: "schemathesis.APIOperation", examples: int) -> None:
    """No answer may be an error of ours, none may differ from its description."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    @given(case=operation.as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: "schemathesis.Case") -> None:
        answer = case.call(timeout=30)
        assert answer.status_code < 500, case.as_curl_command()
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) - {"type", "param"} == {"code", "message", "status"}
        case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])

    check()


def names(operations: "list[schemathesis.APIOperation]") -> set[tuple[str, str]]:
    return {(operation.method.upper(), operation.path) for operation in operations}


def test_every_route_is_described(operations: "list[schemathesis.APIOperation]", encoder: Encoder) -> None:
    app = make_app(ServerConfig(cache=Path("unused")), encoder, None)
    routes = {
        (method, route.path)
        for route in app.routes
        if getattr(route, "include_in_schema", False)
        for method in route.methods - {"HEAD"}
    }
    assert routes <= names(operations) | {("GET", "/openapi.json")}
    assert len(names(operations)) >= 15


def test_a_little_of_everything(fuzzed: Served, operations: "list[schemathesis.APIOperation]") -> None:
    for operation in operations:
        fuzz(operation, 6)
    assert fuzzed.client.get("/health/ready").status_code == 200


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_much_of_everything(fuzzed: Served, operations: "list[schemathesis.APIOperation]") -> None:
    for operation in operations:
        fuzz(operation, 500)
    assert fuzzed.client.get("/health/ready").status_code == 200


def test_pictures_that_are_none(fuzzed: Served) -> None:
    """Truncated, torn and mislabelled: each is an answer, and no program is started for an EPS."""
    whole = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(whole, format="PNG")
    data = whole.getvalue()
    torn = [data[:length] for length in (0, 1, 8, 20, 40, len(data) - 5)]
    texts = [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg/>",
        b"GIF89a",
        b"\xd7\xcd\xc6\x9a",
        b"PK\3\4",
    ]
    started.clear()
    for content in torn + texts:
        for name in ("a.png", "a.eps", "a.svg", "a.tga", "a", ".."):
            answer = fuzzed.client.post("/v1/images", files=[("files", (name, content))])
            assert answer.status_code == 200, (name, content[:20], answer.text)
    assert started == []


def post_all(served: Served, pictures: list[Path]) -> tuple[int, int]:
    """Upload pictures one by one; how many were taken, how many refused."""
    taken = refused = 0
    for picture in pictures:
        answer = served.client.post("/v1/images", files=[("files", (picture.name, picture.read_bytes()))])
        assert answer.status_code == 200, (picture.name, answer.text)
        report = answer.json()
        assert len(report["images"]) + len(report["rejected"]) == 1
        taken, refused = taken + len(report["images"]), refused + len(report["rejected"])
        for image in report["images"]:
            assert served.client.get(f"/v1/images/{image['id']}").status_code == 200
            assert served.client.get(f"/v1/images/{image['id']}/thumbnail").status_code == 200
    return taken, refused


@pytest.mark.long
def test_every_odd_picture(fuzzed: Served, shared_data: Path) -> None:
    pictures = sorted(path for path in (shared_data / "odd_images").rglob("*") if path.is_file())
    started.clear()
    taken, refused = post_all(fuzzed, pictures)
    assert started == []
    assert taken > 300
    assert refused > 50
    assert any(path.suffix == ".eps" for path in pictures)


def test_some_odd_pictures(fuzzed: Served, shared_data: Path) -> None:
    pictures = sorted(path for path in (shared_data / "odd_images").rglob("*") if path.is_file())
    chosen = pictures[::60] + [path for path in pictures if path.suffix == ".eps"][:3]
    started.clear()
    taken, refused = post_all(fuzzed, chosen)
    assert started == []
    assert taken
    assert refused
