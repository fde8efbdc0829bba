"""`tuwen mcp`, asked by the SDK's own client: in this process, and as a command on its standard streams."""

import asyncio
import base64
import io
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tuwen.api import Index
from tuwen.runtime.encoder import Encoder
from tuwen.server.mcp import make_mcp

from .serving import indexed

pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="the extra mcp is not installed")
TOOLS = {"search", "similar", "classify", "facts", "describe_index", "thumbnails"}


@pytest.fixture(scope="module")
def place(encoder: Encoder, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mcp") / "photos.tuwen"
    with indexed(encoder, photos, folder):
        return folder


def asked(encoder: Encoder, place: Path, ask: Callable[[Any, Index], Awaitable[None]]) -> None:
    import mcp

    async def run(index: Index) -> None:
        async with mcp.Client(make_mcp(index, index.root, place.parent / "cache")) as client:
            await ask(client, index)

    with Index.open(place, encoder=encoder) as index:
        asyncio.run(run(index))


def test_all_tools_read_only(encoder: Encoder, place: Path) -> None:
    async def ask(client: Any, _: Index) -> None:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        assert all(tool.annotations.read_only_hint and tool.description for tool in tools)

    asked(encoder, place, ask)


def test_searching_looking_and_classifying(encoder: Encoder, place: Path) -> None:
    async def ask(client: Any, index: Index) -> None:
        async def call(name: str, **given: Any) -> Any:
            answer = await client.call_tool(name, given)
            assert not answer.is_error, answer.content
            return answer.structured_content["result"] if answer.structured_content else answer.content

        hits = await call("search", text="a red apple", k=5, where="width > 1")
        (vector,) = encoder.encode_texts(["a red apple"])
        assert [hit["id"] for hit in hits] == [hit.id for hit in index.search(vector, k=5)]
        first, second = hits[0]["id"], hits[1]["id"]
        assert first not in {hit["id"] for hit in await call("similar", ids=[first], unlike=[second])}
        labels = await call("classify", id=first, labels=["food", "a flag"])
        assert {label["label"] for label in labels} == {"food", "a flag"}
        assert sum(label["probability"] for label in labels) == pytest.approx(1)
        (facts,) = await call("facts", ids=[first])
        assert facts["path"] == hits[0]["payload"]["path"]
        name, picture = await call("thumbnails", ids=[first], size=128)
        assert first in name.text
        with Image.open(io.BytesIO(base64.b64decode(picture.data))) as image:
            assert (picture.mime_type, max(image.size)) == ("image/webp", 128)
        known = (await client.call_tool("describe_index", {})).structured_content
        known = known.get("result", known)
        assert (known["rows"], known["model"]) == (index.info().rows, encoder.name)

    asked(encoder, place, ask)


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("search", {"text": "a", "where": "colour == 1"}),
        ("facts", {"ids": ["nobody"]}),
        ("classify", {"id": "nobody", "labels": ["a"]}),
        ("thumbnails", {"ids": ["a"] * 17}),
        ("similar", {"ids": []}),
    ],
)
def test_what_is_wrong_is_told(encoder: Encoder, place: Path, tool: str, given: dict[str, Any]) -> None:
    async def ask(client: Any, _: Index) -> None:
        answer = await client.call_tool(tool, given)
        assert answer.is_error
        assert "Traceback" not in answer.content[0].text

    asked(encoder, place, ask)


def test_the_command(place: Path, tmp_path: Path) -> None:
    import mcp
    from mcp.client.stdio import StdioServerParameters, stdio_client

    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    words = ["-m", "tuwen", "mcp", "--index", str(place), "--model", "demo", "--threads", "1"]
    command = StdioServerParameters(command=sys.executable, args=words, env=kept | {"HOME": str(tmp_path)})

    async def run() -> None:
        async with mcp.Client(stdio_client(command)) as client:
            answer = await client.call_tool("search", {"text": "a cat", "k": 3})
            assert len(answer.structured_content["result"]) == 3

    asyncio.run(run())
