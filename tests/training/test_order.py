"""Orders are permutations in which shards stay together; shares are stretches of every batch."""

import numpy as np
import pytest

from tuwen.errors import InvalidInput
from tuwen.training.pairs import Mixing, Part, Share

STARTS = np.array([0, 10, 25, 26, 60])
COUNT = 100


def test_an_order_has_everything_once_and_another_in_every_epoch() -> None:
    orders = [Mixing(7, seed).order(STARTS, COUNT, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 4
    assert (Mixing(7, 1).order(STARTS, COUNT, 1) == orders[-1]).all()
    assert Mixing(None, 1).order(STARTS, COUNT, 1).tolist() == list(range(COUNT))


def test_only_what_is_within_the_buffer_is_mixed() -> None:
    order = Mixing(1, 0).order(STARTS, COUNT, 0)  # shards alone
    shard = np.searchsorted(STARTS, order, side="right")
    assert (np.diff(shard) != 0).sum() == len(STARTS) - 1
    assert not (shard == np.sort(shard)).all()
    mixed = Mixing(10, 0).order(STARTS, COUNT, 0)
    for start in range(0, COUNT, 10):
        assert set(mixed[start : start + 10]) == set(order[start : start + 10])
    assert not (mixed == order).all()


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("count", [1, 6, 23, 24, 25, 29])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_apart_and_together_everything(world: int, count: int, drop_last: bool) -> None:
    batch = 4
    if drop_last and count < batch * world:
        with pytest.raises(InvalidInput):
            Share(count, batch, Part(0, world), drop_last=drop_last)
        return
    shares = [Share(count, batch, Part(rank, world), drop_last=drop_last) for rank in range(world)]
    places = [[share.place(position) for position in range(len(share))] for share in shares]
    assert sorted(place for one in places for place in one) == list(range(count))
    sizes = {tuple(share.size(number) for number in range(share.batches)) for share in shares}
    assert len(sizes) == 1
    (every,) = sizes
    taken = [share.place(position) for share in shares for position in range(sum(every))]
    assert all(0 <= place < count for place in taken)
    if not drop_last:
        assert set(taken) == set(range(count))
        assert len(taken) - count < world


def test_after_the_last_pair_the_first_comes_again() -> None:
    share = Share(10, 4, Part(), drop_last=True)
    assert [share.place(position) for position in range(8, 14)] == [8, 9, 0, 1, 2, 3]
