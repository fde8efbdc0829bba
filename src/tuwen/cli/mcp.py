"""`tuwen mcp`: an index as tools for language models."""

from pathlib import Path

import click

from tuwen.cli import options
from tuwen.cli.command import Command
from tuwen.cli.locations import opened
from tuwen.cli.options import Computing
from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.errors import require
from tuwen.index.location import Location


@click.command(
    cls=Command,
    examples=(
        "tuwen mcp --index photos.tuwen",
        "tuwen mcp --index qdrant://host:6333/photos --root /mnt/photos",
    ),
)
@options.index
@click.option("--root", type=options.FOLDER, help="The folder of the images, if not the one the index remembers.")
@options.computing
def mcp(*, computing: Computing, folder: Location | None, root: Path | None) -> None:
    """Offer an index to language models as tools (MCP).

    Speaks on standard input and output, for a program that starts it. Its tools search, find similar images, classify,
    tell what is known of an image and show thumbnails; none of them changes anything.
    """
    require("mcp", extra="mcp")
    require("fastapi", extra="mcp")
    from tuwen.server.mcp import make_mcp

    with opened(options.index_folder(folder), computing) as (_, index):
        silence_libtiff()
        make_mcp(index, root or index.root, computing.settings.cache / "thumbnails").run("stdio")
