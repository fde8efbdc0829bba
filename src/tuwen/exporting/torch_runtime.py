"""A bundle's checkpoint in PyTorch: as an encoder, and as the baseline of a benchmark."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tuwen.bench.bench import TORCH, TORCH_CUT
from tuwen.bench.targets import Target
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Tower
from tuwen.errors import InvalidInput
from tuwen.exporting.sources import checkpoint_of, named_here
from tuwen.models import openclip
from tuwen.models.session import TorchSession, torch_session
from tuwen.models.sources import load_source
from tuwen.models.towers import Towers, with_dims
from tuwen.runtime.encoder import MAX_PIXELS, Encoder
from tuwen.runtime.session import Session, static_shapes
from tuwen.settings import Settings
from tuwen.types import Pixels, Tokens

log = logging.getLogger(__name__)


def torch_encoder(  # noqa: PLR0913  (how it computes, as `load_encoder`)
    bundle: Bundle,
    weights: Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    static: bool = False,
    max_pixels: int = MAX_PIXELS,
    exact_decode: bool = False,
    settings: Settings | None = None,
) -> Encoder:
    """An encoder with a bundle's preprocessing and the towers of its checkpoint.

    Args:
        bundle: the model.
        weights: the checkpoint, or the file of its weights; None: where it was exported or pulled from.
        device: a device of torch; `auto`: CUDA where it is available, else the CPU.
        precision: `auto` is fp32.
        threads: for computing.
        static: run one input at a time, texts at full length.
        max_pixels: as in `Encoder`.
        exact_decode: likewise.
        settings: where downloaded checkpoints are.

    Raises:
        InvalidInput: the checkpoint is not on this machine, or is not the one that the bundle was made from.
    """
    found = checkpoint_of(bundle.manifest, weights, settings or Settings())
    towers = load_source(found.source, found.weights)
    if towers.weights_sha256() != bundle.manifest.weights_sha256:
        name = found.weights or found.source
        raise InvalidInput(f"{name} is not the checkpoint that {bundle.folder} was made from", value=str(name))
    if bundle.manifest.full_dim is not None:
        towers = with_dims(towers, bundle.manifest.dim)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    precision = "fp32" if precision == "auto" else precision

    def opened(tower: Tower) -> Session:
        session = torch_session(towers, tower, device=device, precision=precision, threads=threads)
        return static_shapes(session, towers.text_spec.context_length) if static else session

    return Encoder(bundle, opened, precision=precision, max_pixels=max_pixels, exact_decode=exact_decode)


def torch_baselines(
    bundle: Bundle,
    threads: int,
    *,
    source: str | None = None,
    weights: Path | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
) -> list[Target]:
    """PyTorch in fp32, with inputs as its own library prepares them.

    `torch` pads texts to the context length; `torch-cut` to the longest of the batch, where the bundle's manifest
    says that this changes nothing.

    Args:
        bundle: the model to compare with.
        threads: for computing.
        source: the checkpoint, named as for `export`; None: the bundle's own.
        weights: the checkpoint, or the file of its weights.
        seed: draws random weights instead of reading a file (openclip sources).
        settings: where downloaded checkpoints are.

    Raises:
        InvalidInput: the checkpoint is not on this machine, or a seed is given for another source than openclip's.
    """
    towers = _towers(bundle, source, weights, seed, settings or Settings())
    if towers.weights_sha256() != bundle.manifest.weights_sha256:
        log.info("note: these are not the weights that the bundle was made from; only speed is compared")
    vision = torch_session(towers, "vision", threads=threads)
    text = torch_session(towers, "text", threads=threads)
    whole = Target(
        TORCH,
        "fp32",
        vision.device,
        to_pixels=lambda files: _pixels(towers, files),
        to_tokens=towers.to_tokens,
        images=lambda pixels: vision.run({vision.inputs[0].name: pixels}),
        texts=lambda tokens: _text_vectors(text, tokens, tokens.ids.shape[1]),
    )
    if not bundle.manifest.text.cut_exact:
        return [whole]
    cut = replace(whole, runtime=TORCH_CUT, texts=lambda tokens: _text_vectors(text, tokens, int(tokens.lengths.max())))
    return [whole, cut]


def _pixels(towers: Towers, files: Sequence[bytes]) -> Pixels:
    return towers.to_pixels([Image.open(BytesIO(content)).convert("RGB") for content in files])


def _text_vectors(text: TorchSession, tokens: Tokens, width: int) -> NDArray[np.float32]:
    mask = (np.arange(width) < tokens.lengths[:, None]).astype(np.int64)
    feeds: Mapping[str, NDArray[np.int64]] = {"input_ids": tokens.ids[:, :width], "attention_mask": mask}
    return text.run({port.name: np.ascontiguousarray(feeds[port.name]) for port in text.inputs})


def _towers(bundle: Bundle, source: str | None, weights: Path | None, seed: int | None, settings: Settings) -> Towers:
    own = bundle.manifest.source
    if source is None and weights is None and seed is None and (drawn := re.search(r"/random-(\d+)$", own)):
        seed = int(drawn[1])
    if seed is None:
        found = (
            checkpoint_of(bundle.manifest, weights, settings)
            if source is None
            else named_here(source, weights, settings)
        )
        return load_source(found.source, found.weights)
    family, _, name = (source or own).partition(":")
    if family != "openclip" or weights is not None:
        raise InvalidInput(
            f"a seed draws random weights of an openclip architecture, not of {source or own}: leave out --seed",
            value=seed,
            where="--seed",
        )
    return openclip.load(name.partition("/")[0], seed=seed)
