"""`tuwen serve`: an index as an HTTP service with a page."""

import gc
import signal
import sys
import threading
import webbrowser
from typing import Any

import click

from tuwen.cli import options
from tuwen.cli.command import Command, say
from tuwen.cli.console import emit
from tuwen.cli.locations import opened
from tuwen.cli.options import Computing
from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.errors import InvalidInput, require
from tuwen.index.index import VectorIndex
from tuwen.index.location import Location
from tuwen.server.config import ServerConfig, checked


@click.command(
    cls=Command,
    examples=(
        "tuwen serve --index photos.tuwen",
        "tuwen serve --index photos.tuwen --allow-upload --port 9000 --no-open",
        "tuwen serve --index photos.tuwen --host 0.0.0.0 --key $KEY --read-key $OTHER",
        "tuwen serve --index qdrant://host:6333/photos --root /mnt/photos",
    ),
)
@options.index
@click.option(
    "--root", type=options.FOLDER, help="The folder of the images on this machine, if not the one in the index."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--root-path", default="", metavar="PATH", help="The path below which a reverse proxy serves it.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0: any free port.",
)
@click.option(
    "--key", "keys", multiple=True, metavar="KEY", help="A key that grants read and write access; repeatable."
)
@click.option(
    "--read-key", "read_keys", multiple=True, metavar="KEY", help="A key that grants read access; repeatable."
)
@click.option("--insecure", is_flag=True, help="Listen on other addresses than loopback without a key.")
@click.option(
    "--adapter",
    "adapters",
    type=options.FOLDER,
    multiple=True,
    metavar="FOLDER",
    help="Let clients classify by what tuwen adapt learnt, under the folder's name; repeatable.",
)
@click.option("--allow-upload", is_flag=True, help="Allow clients to add and remove images.")
@click.option("--allow-url", is_flag=True, help="Allow queries by the public URL of an image, which is fetched.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Another host name of the service; repeatable."
)
@click.option(
    "--cors", "origins", multiple=True, metavar="ORIGIN", help="An origin whose pages may call the service; repeatable."
)
@click.option("--rate", type=click.FloatRange(0), default=0.0, help="Requests per second and key; 0: unlimited.")
@click.option("--max-batch", type=click.IntRange(min=1), default=32, show_default=True, help="Inputs per batch.")
@click.option(
    "--batch-wait",
    type=click.FloatRange(0, 1000),
    default=3.0,
    show_default=True,
    help="Milliseconds to wait for a batch to fill.",
)
@click.option(
    "--queue", type=click.IntRange(min=1), default=256, show_default=True, help="Maximum number of waiting inputs."
)
@click.option(
    "--deadline", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds until a request times out."
)
@click.option(
    "--text-cache", type=click.IntRange(min=0), default=10_000, show_default=True, help="Text vectors to cache."
)
@click.option("--max-picture", type=click.IntRange(1), default=32, show_default=True, help="Maximum MiB of an image.")
@click.option("--max-upload", type=click.IntRange(1), default=256, show_default=True, help="Maximum MiB of an upload.")
@click.option(
    "--log",
    type=click.Choice(["none", "errors", "requests", "queries"]),
    default="requests",
    show_default=True,
    help="What to log to standard error, one JSON document per line.",
)
@click.option("--open/--no-open", "opens", default=True, help="Open the search page in a browser.")
@options.computing
@options.as_json
def serve(
    *,
    computing: Computing,
    folder: Location | None,
    opens: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401  (what `_config` makes a ServerConfig of)
) -> None:
    """Serve an index over HTTP, with a search page.

    The service runs until Ctrl-C, and only this machine can reach it. With any other --host, a key is required: --key,
    or the setting TUWEN_SERVE_KEY, which other users of this machine cannot see.
    """
    require("fastapi", extra="serve")
    require("uvicorn", extra="serve")
    from tuwen.server.app import make_app
    from tuwen.server.monitoring import write_logs
    from tuwen.server.serving import address, listen, server_of

    config = _config(computing, **given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # raised when the service has ended; the index is closed
    with listen(config) as listening, opened(options.index_folder(folder), computing.measuring()) as (encoder, index):
        _see_root(config, index)
        if config.allow_upload:
            index.optimize()
        write_logs(config.log)
        silence_libtiff()
        _tell(config, address(listening), as_json=as_json)
        if opens:
            threading.Timer(1.0, webbrowser.open, [address(listening)]).start()
        server = server_of(make_app(config, encoder, index))
        gc.freeze()  # what is imported stays: looking through it again and again would hold up requests
        server.run(sockets=[listening])


def _config(
    computing: Computing,
    *,
    batch_wait: float,
    max_picture: int,
    max_upload: int,
    **given: Any,  # noqa: ANN401
) -> ServerConfig:
    """The options and settings as the service's configuration."""
    settings = computing.settings
    given["keys"] = given["keys"] or tuple(filter(None, [settings.serve_key]))
    given["read_keys"] = given["read_keys"] or tuple(filter(None, [settings.serve_read_key]))
    config = ServerConfig(
        cache=settings.cache / "thumbnails",
        threads=computing.cores,
        batch_wait=batch_wait / 1000,
        max_picture=max_picture * 2**20,
        max_upload=max_upload * 2**20,
        **given,
    )
    return checked(config)


def _see_root(config: ServerConfig, index: VectorIndex) -> None:
    """Warn if the folder of the images is missing.

    Raises:
        InvalidInput: images are to be added to it.
    """
    root = config.root or index.root
    if root.is_dir():
        return
    missing = f"{root}, the folder of the images in {index.place}, does not exist on this machine: name it with --root"
    if config.allow_upload:
        raise InvalidInput(missing)
    say(missing)


def _tell(config: ServerConfig, url: str, *, as_json: bool) -> None:
    """Print the address and whether a key is required, but never the key: terminals are recorded."""
    if as_json:
        emit({"url": url, "docs": f"{url}docs", "key": config.protected, "write": config.allow_upload})
        return
    say(f"{url} (API: {url}docs); press Ctrl-C to stop")
    if config.protected:
        say("a key is required: Authorization: Bearer KEY")
