"""What people call a checkpoint, `openclip:ViT-B-32`, to the family that loads it. Knows the families by name."""

from pathlib import Path

from tuwen.errors import InvalidInput
from tuwen.models import openclip
from tuwen.models.towers import Towers

KINDS = {"openclip": "openclip:ARCHITECTURE or openclip:ARCHITECTURE/TAG, e.g. openclip:ViT-B-32/laion2b_s34b_b79k"}
"""How a checkpoint of each family is named."""


def load_source(source: str, weights: Path | None) -> Towers:
    """Load a checkpoint from this machine.

    Args:
        source: a family and its own name for the model, see `KINDS`. A tag says which published weights these are,
            where that decides how pictures are prepared.
        weights: the file of its weights.

    Raises:
        InvalidInput: there is no such family or model, or the weights are missing or of another model.
    """
    kind, _, name = source.partition(":")
    if kind not in KINDS or not name:
        raise InvalidInput(f"{source!r} names no checkpoint: write {'; or '.join(KINDS.values())}")
    if weights is None:
        raise InvalidInput(f"{source} needs the file of its weights: add --weights FILE")
    architecture, _, tag = name.partition("/")
    return openclip.load(architecture, weights, tag=tag or None)
