"""Where a bulk job is computed: the options `--engine --address --workers`.

Knows the choice. Does not know what is computed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuwen.errors import InvalidInput

if TYPE_CHECKING:
    from tuwen.cli.embed import Loaded
    from tuwen.tasks.embed import Engine

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """Here, or on a cluster."""

    engine: str
    address: str | None
    workers: int | None

    def check(self) -> None:
        """See that the options go together.

        Raises:
            InvalidInput: an address or workers, and no cluster.
        """
        if self.engine == "local" and (self.address is not None or self.workers is not None):
            raise InvalidInput("--address and --workers are about a cluster: add --engine ray")

    @contextmanager
    def opened(self, loaded: "Loaded") -> "Iterator[Engine]":
        """What computes, as long as the block lasts."""
        if self.engine == "local":
            yield _here(loaded)
            return
        from tuwen.cli.opening import place_of
        from tuwen.tasks.cluster import Recipe, on_cluster

        settings = loaded.computing.settings
        recipe = Recipe(
            model=place_of(loaded.model),
            fingerprint=loaded.encoder.fingerprint,
            choice=loaded.choice,
            models=settings.models,
            cache=settings.cache,
            max_pixels=settings.max_pixels,
            exact_decode=loaded.computing.exact_decode,
        )
        with on_cluster(self.address or "auto", recipe, self.workers) as engine:
            yield engine


def _here(loaded: "Loaded") -> "Engine":
    from tuwen.tasks.embedding import embed

    computing = loaded.computing
    return partial(
        embed, encoder=loaded.encoder, reading=computing.reading(loaded.encoder), decoders=computing.cores
    )


def where(command: F) -> F:
    """Add `--engine --address --workers`; `command` gets one `Where`."""

    @wraps(command)
    def with_where(**options: Any) -> object:  # noqa: ANN401
        chosen = Where(*(options.pop(name) for name in ("engine", "address", "workers")))
        chosen.check()
        return command(where=chosen, **options)

    for option in reversed(_OPTIONS):
        with_where = option(with_where)
    return with_where  # type: ignore[return-value]


_OPTIONS = (
    click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
    click.option("--address", metavar="auto|local|ray://…", help="Which Ray cluster; auto by default."),
    click.option("--workers", type=click.IntRange(min=1), help="Of the cluster; as many as it has cores for."),
)
