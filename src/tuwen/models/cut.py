"""Proof that a text tower gives a text the same vector cut after its last token as padded to the context length."""

import numpy as np
import torch

from tuwen.types import Tokens

TOLERANCE = 1e-6
"""What reordered sums of fp32 may differ by, in a vector of length 1."""


def cut_is_exact(text: torch.nn.Module, tokens: Tokens, *, mask: bool) -> bool:
    """Whether every text's vector is the same, within `TOLERANCE`, at its own length and at full length.

    True of causal towers that pool at the end token and of towers that mask padding; not of towers that see
    their padding or number their positions from the end.

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
    """The torch tower's own vectors for tokens as they stand: (n, dim) float32 of unit length."""
    text.eval()
    inputs = [torch.from_numpy(tokens.ids)]
    if mask:
        real = np.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]
        inputs.append(torch.from_numpy(real.astype(np.int64)))
    with torch.no_grad():  # not inference_mode: what a tower keeps from here may be trained with later
        parts = [text(*(x[start : start + batch] for x in inputs)) for start in range(0, len(tokens.ids), batch)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()
