"""An application at an address, until it is told to stop. Knows sockets and limits of HTTP itself; no route."""

import socket
from typing import TYPE_CHECKING

import uvicorn

from tuwen.errors import InvalidInput
from tuwen.server.config import ServerConfig
from tuwen.server.listener import Listener

if TYPE_CHECKING:
    from fastapi import FastAPI

BACKLOG = 2048
"""callers that wait to be let in"""
IDLE = 10
"""seconds that a connection is kept without a request"""
GRACE = 30
"""seconds that requests have to end after the service was told to"""


def listen(config: ServerConfig) -> socket.socket:
    """Take the address: who calls from now on waits until the application is there.

    Raises:
        InvalidInput: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    taken = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named, or asyncio leaves Nagle's delay on
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((config.host, config.port))
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        raise InvalidInput(f"{config.host}:{config.port} cannot be listened at: {error.strerror}") from error
    return taken


def address(listening: socket.socket) -> str:
    """How a browser on this machine calls it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}/"


def server_of(app: "FastAPI") -> uvicorn.Server:
    """What runs the application: `server.run(sockets=[listen(config)])`."""
    config = uvicorn.Config(
        app,
        http=Listener,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)
