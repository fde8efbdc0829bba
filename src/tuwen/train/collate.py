"""Examples to one batch of tensors. Knows a text spec. Does not know files."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch

from tuwen.bundle.manifest import TextSpec
from tuwen.train.batch import Batch
from tuwen.train.chance import key_of
from tuwen.train.examples import Example
from tuwen.types import Tokens

ToTokens: TypeAlias = Callable[[Sequence[str]], Tokens]
"""texts to ids, padded to their longest or to the context length"""


class Collate:
    """Stacks pictures, tokenizes captions, and gives both their keys."""

    def __init__(self, spec: TextSpec, to_tokens: ToTokens, *, cut: bool) -> None:
        """Prepare.

        Args:
            spec: what the ids are like.
            to_tokens: the model's tokenizer.
            cut: whether ids are cut to the longest of their batch; else they have the context length.
        """
        self._spec, self._to_tokens, self._cut = spec, to_tokens, cut

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """The examples as a batch, in their order."""
        tokens = self._to_tokens([example.text for example in examples])
        length = int(tokens.lengths.max()) if self._cut else self._spec.context_length
        ids = np.full((len(examples), length), self._spec.pad_id, dtype=np.int64)
        shared = min(length, tokens.ids.shape[1])
        ids[:, :shared] = tokens.ids[:, :shared]
        mask = np.arange(length) < tokens.lengths[:, None]
        keys = [key_of(row[:size].tobytes()) for row, size in zip(ids, tokens.lengths, strict=True)]
        return Batch(
            pixels=torch.from_numpy(np.stack([example.pixels for example in examples])),
            ids=torch.from_numpy(ids),
            mask=torch.from_numpy(mask.astype(np.int64)),
            image_keys=torch.tensor([example.image_key for example in examples], dtype=torch.int64),
            text_keys=torch.tensor(keys, dtype=torch.int64),
        )
