import numpy as np
import pytest
import torch

from tuwen.models.towers import cut_is_exact, vectors
from tuwen.types import Tokens

CONTEXT, END = 12, 49


class Causal(torch.nn.Module):
    """Sums up what stands before each token, and answers with what it has at the end token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(50, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.words(ids).cumsum(1)[torch.arange(len(ids)), ids.argmax(1)]


class SeesPadding(Causal):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.words(ids).sum(1)


class Masked(Causal):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.words(ids) * mask[..., None]).sum(1)


@pytest.fixture
def tokens() -> Tokens:
    rng = np.random.default_rng(0)
    lengths = np.array([2, 3, 3, 7, 12, 12])
    ids = rng.integers(1, 40, (6, CONTEXT))
    ids[np.arange(6), lengths - 1] = END
    ids[np.arange(CONTEXT) >= lengths[:, None]] = 0
    return Tokens(ids, lengths)


@pytest.mark.parametrize(
    ("tower", "mask", "exact"), [(Causal(), False, True), (SeesPadding(), False, False), (Masked(), True, True)]
)
def test_cutting_is_exact_where_padding_is_not_seen(tower, mask, exact, tokens) -> None:
    assert cut_is_exact(tower, tokens, mask=mask) is exact


def test_vectors_have_unit_length_whatever_the_batch(tokens) -> None:
    one, all_at_once = (vectors(Causal(), tokens, mask=False, batch=batch) for batch in (1, 64))
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(one, all_at_once, atol=1e-6)
