"""An index as tools for language models, over the Model Context Protocol: search, similar, classify, facts, thumbnails.

Nothing can be changed through these tools. `tuwen mcp` serves them on standard input and output.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuwen import __version__
from tuwen.classify.classifier import predictions
from tuwen.classify.labels import averaged, checked_labels, label_texts
from tuwen.errors import InvalidInput, TuwenError, require
from tuwen.index.store import Stored
from tuwen.search.query import Query, RowId
from tuwen.server.images import Thumbnails, file_of
from tuwen.server.responses import APIError, hits_as_documents

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from tuwen.api import Index

MOST = 100
"""hits of one search"""
MOST_THUMBNAILS = 16
"""thumbnails of one call"""
INSTRUCTIONS = (
    "An index of images that is searched by their content. Start with `search`; its hits have ids that all other "
    "tools take. A score is a cosine similarity: compare scores within one search only. `describe_index` lists what "
    "filters (`where`) can use, e.g. width >= 1024 and folder == '2023'."
)


def make_mcp(index: "Index", root: Path, cache: Path) -> "MCPServer[Any]":
    """Make the MCP server of an index.

    Args:
        index: an index that stays open as long as the server runs.
        root: the folder of the images.
        cache: the folder for thumbnails.

    Raises:
        MissingExtra: the package `mcp` is not installed.
    """
    require("mcp", extra="mcp")
    from mcp.server import MCPServer
    from mcp.types import ToolAnnotations

    tools = IndexTools(index, root, Thumbnails(cache, index.encoder.reading.max_pixels))
    server: MCPServer[Any] = MCPServer("tuwen", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    reading = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    for tool in (tools.search, tools.similar, tools.classify, tools.facts, tools.describe_index):
        server.add_tool(_with_errors(tool), annotations=reading)
    server.add_tool(_with_errors(tools.thumbnails), annotations=reading, structured_output=False)
    return server


class IndexTools:
    """The tools, as Python methods; their docstrings are the descriptions that a model reads."""

    def __init__(self, index: "Index", root: Path, thumbnails: Thumbnails) -> None:
        self._index, self._root, self._thumbnails = index, root, thumbnails

    def search(
        self, text: str, k: int = 10, where: str | None = None, min_score: float | None = None
    ) -> list[dict[str, Any]]:
        """Find images by a text that describes what they show, best first.

        Args:
            text: what the images should show, in any language that the model knows.
            k: the number of hits, up to 100.
            where: a filter, e.g. width >= 1024 and folder == '2023' and modified >= '2023-05-01'.
            min_score: drop hits with a lower cosine.
        """
        return self._find(Query([text]), k, where, min_score)

    def similar(
        self, ids: list[str], unlike: list[str] | None = None, k: int = 10, where: str | None = None
    ) -> list[dict[str, Any]]:
        """Find images that look like some images of the index, and unlike others.

        Args:
            ids: ids of the images that hits should resemble.
            unlike: ids of images that hits should not resemble.
            k: the number of hits, up to 100.
            where: a filter, as in `search`.
        """
        return self._find(Query([*map(RowId, ids)], [*map(RowId, unlike or [])]), k, where, None)

    def classify(self, id: str, labels: list[str], template: str = "_") -> list[dict[str, Any]]:  # noqa: A002
        """Compare an image of the index with labels; returns label, probability and cosine, best first.

        Args:
            id: the id of the image.
            labels: what it may show, at least one.
            template: a sentence with one `_` for the label, e.g. "a photo of a _".
        """
        row = self._row(id)
        vector = self._index.vectors([id])[id]
        known = checked_labels(labels, "labels")
        vectors = averaged(known, self._index.encoder.encode_texts(label_texts(known, [template])))
        (found,) = predictions(
            [str(row.payload["path"])], vector[None], vectors, self._index.encoder.scoring, multi_label=False
        )
        return [asdict(label) for label in found.labels]

    def facts(self, ids: list[str]) -> list[dict[str, Any]]:
        """All fields that the index has of some images: path, size, format, dates.

        Args:
            ids: the ids of the images.
        """
        return [{"id": each, **self._row(each).payload} for each in ids]

    def describe_index(self) -> dict[str, Any]:
        """The number of images in the index, its model with the languages that it knows, and the folders."""
        info = self._index.info()
        languages = list(self._index.encoder.text_spec.languages)
        return {
            "rows": info.rows,
            "model": self._index.encoder.name,
            "languages": languages,
            "folders": self._index.values("folder"),
        }

    def thumbnails(self, ids: list[str], size: int = 512) -> list[Any]:
        """Show images of the index, each after a line with its id and path.

        Args:
            ids: the ids of up to 16 images.
            size: pixels of the longer side, rounded up to 128, 256, 320, 480, 640, 1024, 1600 or 2048.
        """
        from mcp.server.mcpserver import Image

        if len(ids) > MOST_THUMBNAILS:
            raise InvalidInput(f"too many images ({len(ids)}); ask for at most {MOST_THUMBNAILS}", value=len(ids))
        shown: list[Any] = []
        for each in ids:
            row = self._row(each)
            file = self._thumbnails.made(file_of(row, self._root), str(row.payload.get("content", "")), size)
            shown += [f"{each} {row.payload['path']}", Image(data=file.read_bytes(), format="webp")]
        return shown

    def _find(self, query: Query, k: int, where: str | None, min_score: float | None) -> list[dict[str, Any]]:
        hits = self._index.search(query, min(max(k, 1), MOST), where=where, min_score=min_score)
        return hits_as_documents(hits, similar=False)

    def _row(self, ident: str) -> Stored:
        row = self._index.get([ident]).get(ident)
        if row is None:
            raise InvalidInput(f"there is no image with the id {ident}; use an id from search", value=ident)
        return row


def _with_errors(tool: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a tool so that errors become messages for the model."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return tool(*args, **kwargs)
        except APIError as error:
            raise ToolError(error.detail) from None
        except TuwenError as error:
            raise ToolError(str(error)) from None

    return run
