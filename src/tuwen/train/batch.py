"""What one step is made of. Knows nothing of where it came from or what becomes of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of a picture and a caption, row by row.

    Attributes:
        pixels: (n, 3, h, w) float32, as the model's image spec says.
        ids: (n, l) int64, padded with the text spec's `pad_id`.
        mask: (n, l) int64, 1 where an id is real and 0 where it is padding.
        image_keys: (n,) int64; equal where the pictures' files are equal.
        text_keys: (n,) int64; equal where the ids are equal.
    """

    pixels: "Tensor"
    ids: "Tensor"
    mask: "Tensor"
    image_keys: "Tensor"
    text_keys: "Tensor"

    def __len__(self) -> int:
        return len(self.pixels)
