"""`Towers`: everything that export and training need to know about a checkpoint. Each family's module builds one."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.errors import InvalidInput
from tuwen.types import Pixels, Tokens

ToPixels: TypeAlias = Callable[[Sequence[Image.Image]], Pixels]
"""RGB pictures to (n, 3, h, w) float32."""

ToTokens: TypeAlias = Callable[[Sequence[str]], Tokens]
"""Texts to tokens, every row padded to the context length with the text spec's `pad_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Towers:
    """A checkpoint as its authors define it, ready to be exported.

    To export modules of your own, fill in every field; `export` puts them into eval mode, measures their properties,
    and normalises the outputs itself.

    Attributes:
        name: the model's name, which becomes the bundle's.
        family: the package or project that defines the modules, e.g. `openclip`.
        source: the checkpoint they were made from.
        licence: SPDX identifier or name of the weights' licence; "" if not known.
        vision: called with pixel_values (n, 3, h, w) float32, returns (n, dim) float32 of any length.
        text: called with input_ids (n, l) int64, and with attention_mask (n, l) int64 (1 = real, 0 = padding)
            after it if `text_spec.mask` is set; returns (n, dim) float32 of any length. It must accept any l
            from 2 to the context length, and `torch.export` must be able to trace it: no branches on a tensor's
            values, no Python numbers made from a shape. Export detects whether padding changes its output
            (`cut_exact`); if not, it runs on short inputs.
        image_spec: how an image becomes pixels.
        text_spec: how a text becomes tokens. Export sets `cut_exact` and `pad_to`.
        scoring: how cosines become probabilities.
        tokenizer: the bytes of a `tokenizer.json` that gives the model's ids, special tokens included.
        weights: every tensor that affects a vector, by name; they identify the model (see `weights_sha256`).
        to_pixels: the authors' own preprocessing, with which tuwen's is compared. For a model trained with tuwen, this
            is `tuwen.data.pixels.to_pixels`.
        to_tokens: the authors' own tokenizer, with which tuwen's is compared.
        full_dim: the length of the checkpoint's own vectors, if only the first numbers are kept, see `with_dims`.
        facts: further facts to record, e.g. quality figures.
        blueprint: the configuration of both modules as JSON, from which they can be rebuilt without the checkpoint;
            None if that is not possible.
    """

    name: str
    family: str
    source: str
    licence: str = ""
    vision: torch.nn.Module
    text: torch.nn.Module
    image_spec: ImageSpec
    text_spec: TextSpec
    scoring: Scoring
    tokenizer: bytes
    weights: Mapping[str, torch.Tensor]
    to_pixels: ToPixels
    to_tokens: ToTokens
    full_dim: int | None = None
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    blueprint: Mapping[str, Any] | None = None

    def weights_sha256(self) -> str:
        """64 hex digits over the sorted names, types, shapes and values of `weights`."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            tensor = self.weights[name].detach().cpu().contiguous()
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(_bytes_of(tensor).data)
        return digest.hexdigest()


def with_dims(towers: Towers, dims: int) -> Towers:
    """Towers whose vectors are the first `dims` numbers of the checkpoint's; a bundle scales them to length 1 again.

    That keeps most of the quality if the checkpoint was trained for it: Matryoshka representation learning, Kusupati
    et al. 2022.

    Raises:
        InvalidInput: the checkpoint's vectors are not that long, or `dims` is below 1.
    """
    with torch.no_grad():
        full = towers.vision.eval()(torch.zeros(1, 3, *towers.image_spec.size)).shape[-1]
    if not 1 <= dims <= full:
        hint = f"choose 1 to {full}"
        message = f"{towers.name} has vectors of {full} numbers, which cannot be cut to {dims}: {hint}"
        raise InvalidInput(message, value=dims, where="dims", hint=hint)
    if dims == full:
        return towers
    vision, text = _Cut(towers.vision, dims), _Cut(towers.text, dims)
    return replace(towers, vision=vision, text=text, full_dim=full, blueprint=None)


class _Cut(torch.nn.Module):
    """A tower that keeps the first numbers of each vector."""

    def __init__(self, tower: torch.nn.Module, dims: int) -> None:
        super().__init__()
        self.tower, self.dims = tower, dims

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.tower(*inputs)
        return vectors[:, : self.dims]


def _bytes_of(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """The tensor's bytes; numpy has no bfloat16."""
    flat: NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
    return flat


TOLERANCE = 1e-6
"""largest difference between vectors of length 1 that is due to the order of fp32 sums"""


def cut_is_exact(text: torch.nn.Module, tokens: Tokens, *, mask: bool) -> bool:
    """Whether each text has the same vector, within `TOLERANCE`, with and without padding.

    True for causal towers that pool at the end token and for towers that mask padding; false for towers that attend to
    padding or count positions from the end.

    Args:
        text: the tower, as `Towers.text`.
        tokens: texts of many lengths, padded to the context length.
        mask: whether the tower takes an attention mask.
    """
    full = vectors(text, tokens, mask=mask)
    for length in np.unique(tokens.lengths):
        rows = tokens.lengths == length
        cut = vectors(text, Tokens(tokens.ids[rows, :length], tokens.lengths[rows]), mask=mask)
        if not np.abs(cut - full[rows]).max() <= TOLERANCE:
            return False
    return True


def vectors(text: torch.nn.Module, tokens: Tokens, *, mask: bool, batch: int = 16) -> np.ndarray:
    """Compute the torch tower's vectors for tokens, (n, dim) float32 of unit length."""
    text.eval()
    inputs = [torch.from_numpy(tokens.ids)]
    if mask:
        real = np.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]
        inputs.append(torch.from_numpy(real.astype(np.int64)))
    with torch.no_grad():  # not inference_mode: tensors that a tower caches here may be used in training
        parts = [text(*(x[start : start + batch] for x in inputs)) for start in range(0, len(tokens.ids), batch)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()
