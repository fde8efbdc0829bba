"""How rows are put into batches, so that a row's vector never depends on the rows beside it.

A text's width follows from its own length alone. Knows numbers of rows and tokens; does not know sessions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuwen.bundle.manifest import TextSpec
from tuwen.types import Tokens

IMAGES = 32
"""the most pictures in one run: more are no faster, and a large tower needs 10 MB each"""
TEXTS = 64
STEP = 4
"""texts are padded to a multiple of this many tokens: fewer widths, so that more texts share a run"""


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts of one width.

    Attributes:
        rows: which of the texts.
        ids: (batch, width) int64.
        mask: (batch, width) int64, 1 where a token is real.
    """

    rows: NDArray[np.intp]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def image_batches(count: int, fixed: int | None) -> Iterator[slice]:
    """Rows 0..count in turns. `fixed`: the batch that the graph insists on; the last turn may be shorter."""
    size = fixed or IMAGES
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def text_batches(tokens: Tokens, spec: TextSpec, fixed: tuple[int | None, int | None]) -> Iterator[TextBatch]:
    """Texts of like length together, each cut as soon as that changes nothing.

    Args:
        tokens: the texts.
        spec: whether they may be cut after their last token, and what pads them.
        fixed: batch and width that the graph insists on, each None where it does not.
    """
    batch, width = fixed
    widths = _widths(tokens.lengths, spec, width)
    for wide in np.unique(widths):
        rows = np.flatnonzero(widths == wide)
        for start in range(0, len(rows), batch or TEXTS):
            yield _text_batch(tokens, rows[start : start + (batch or TEXTS)], int(wide), spec.pad_id)


def filled(rows: NDArray[np.generic], batch: int | None) -> NDArray[np.generic]:
    """`rows` brought to the batch that a graph insists on, by repeating the last; as they are where it does not."""
    missing = 0 if batch is None else batch - len(rows)
    return rows if missing == 0 else np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])


def _widths(lengths: NDArray[np.int64], spec: TextSpec, fixed: int | None) -> NDArray[np.int64]:
    if fixed is not None or not spec.cut_exact:
        return np.full(len(lengths), fixed or spec.context_length, dtype=np.int64)
    return np.minimum(-(-lengths // STEP) * STEP, spec.context_length)


def _text_batch(tokens: Tokens, rows: NDArray[np.intp], width: int, pad_id: int) -> TextBatch:
    mask = (np.arange(width) < tokens.lengths[rows, None]).astype(np.int64)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    known = min(width, tokens.ids.shape[1])
    ids[:, :known] = tokens.ids[rows, :known]
    return TextBatch(rows, np.where(mask == 1, ids, pad_id), mask)
