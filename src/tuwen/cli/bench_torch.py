"""The rival of a benchmark: the checkpoint in PyTorch, as its own library runs it, on as many threads.

Knows torch, which nothing below the command line may. Times nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tuwen.cli import hub, options
from tuwen.cli.ending import say
from tuwen.errors import InvalidInput
from tuwen.extras import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuwen.bundle.bundle import Bundle
    from tuwen.models.session import TorchSession
    from tuwen.models.towers import Towers
    from tuwen.tasks.contenders import Contender
    from tuwen.types import Pixels, Tokens

F = TypeVar("F", bound=Callable[..., Any])

PAUSE = 0.2
"""Seconds between two turns where PyTorch takes part: its threads go on spinning after their work is done."""


@dataclass(frozen=True, slots=True)
class Rival:
    """The checkpoint to be compared with.

    Attributes:
        source: named as for `tuwen export`; None: as the bundle's manifest has it.
        weights: itself, or the file of its weights.
        seed: of random weights in place of a file (openclip).
    """

    source: str | None
    weights: Path | None
    seed: int | None


def against(command: F) -> F:
    """Add `--against --source --weights --seed`; `command` gets one `rival`, None where nothing is compared."""

    @wraps(command)
    def with_rival(**words: Any) -> object:  # noqa: ANN401
        asked, given = words.pop("against"), {name: words.pop(name) for name in ("source", "weights", "seed")}
        named = [name for name, value in given.items() if value is not None]
        if named and asked is None:
            raise click.UsageError(f"--{named[0]} is about what --against compares with: add --against torch")
        return command(rival=None if asked is None else Rival(**given), **words)

    for option in reversed(_AGAINST):
        with_rival = option(with_rival)
    return with_rival  # type: ignore[return-value]


def contenders(rival: Rival, bundle: "Bundle", threads: int) -> "list[Contender]":
    """PyTorch in fp32: with texts padded to the context length as its libraries do, and to the batch's longest.

    The latter only where the bundle's manifest says that it changes nothing.

    Raises:
        MissingExtra: torch is not installed.
        InvalidInput: the checkpoint cannot be loaded, or its weights are not said.
    """
    require("torch", extra="export")
    from tuwen.models.session import torch_session
    from tuwen.tasks.bench import TORCH, TORCH_CUT

    towers = _towers(rival, bundle)
    if towers.weights_sha256() != bundle.manifest.weights_sha256:
        say("note: these are not the weights that the bundle was made from; only speed is compared")
    vision = torch_session(towers, "vision", threads=threads)
    text = torch_session(towers, "text", threads=threads)
    whole = _contender(towers, vision, text)
    cut = replace(whole, runtime=TORCH_CUT, texts=lambda tokens: _run(text, tokens, int(tokens.lengths.max())))
    return [replace(whole, runtime=TORCH), *([cut] if bundle.manifest.text.cut_exact else [])]


def _contender(towers: "Towers", vision: "TorchSession", text: "TorchSession") -> "Contender":
    from tuwen.tasks.contenders import Contender, opened_plainly

    def to_pixels(files: "Sequence[bytes]") -> "Pixels":
        return towers.to_pixels(opened_plainly(files))

    def images(pixels: "Pixels") -> "NDArray[np.float32]":
        return vision.run({vision.inputs[0].name: pixels})

    def texts(tokens: "Tokens") -> "NDArray[np.float32]":
        return _run(text, tokens, tokens.ids.shape[1])

    return Contender("torch", "fp32", vision.device, to_pixels, towers.to_tokens, images, texts)


def _run(text: "TorchSession", tokens: "Tokens", width: int) -> "NDArray[np.float32]":
    import numpy as np

    mask = (np.arange(width) < tokens.lengths[:, None]).astype(np.int64)
    feeds: Mapping[str, NDArray[np.int64]] = {"input_ids": tokens.ids[:, :width], "attention_mask": mask}
    return text.run({port.name: np.ascontiguousarray(feeds[port.name]) for port in text.inputs})


def _towers(rival: Rival, bundle: "Bundle") -> "Towers":
    from tuwen.models.sources import load_source

    source, seed = rival.source or bundle.manifest.source, rival.seed
    if rival.weights is None and rival.source is None and seed is None:
        drawn = re.search(r"/random-(\d+)$", bundle.manifest.source)
        seed = None if drawn is None else int(drawn[1])
    if seed is None:
        settings = options.read_settings()
        named = None if rival.source is None else hub.named_here(rival.source, rival.weights, settings)
        found = named or hub.checkpoint_of(bundle.manifest, rival.weights, settings)
        return load_source(found.source, found.weights)
    kind, _, name = source.partition(":")
    if kind != "openclip" or rival.weights is not None:
        raise InvalidInput(
            f"--seed is for random weights of an openclip: architecture, not for {source}: leave it out"
        )
    from tuwen.models import openclip

    return openclip.load(name.partition("/")[0], seed=seed)


_AGAINST = (
    click.option("--against", type=click.Choice(["torch"]), help="Run PyTorch beside them, in the same rounds."),
    click.option(
        "--source", metavar="SOURCE", help="Its checkpoint, named as for tuwen export; else the bundle's own."
    ),
    click.option("--weights", type=options.EXISTING, metavar="PATH", help="The checkpoint, or its weights' file."),
    click.option("--seed", type=int, metavar="N", help="Random weights in place of a file (openclip: sources)."),
)
