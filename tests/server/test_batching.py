import asyncio
import threading
from collections.abc import Sequence

import pytest

from tuwen.server.batching import Batcher
from tuwen.server.responses import APIError


class Doubling:
    """Doubles numbers, and remembers what it was given together. Waits at a gate; refuses 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.gate.wait(10)
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


def batcher(run: Doubling, *, most: int = 8, wait: float = 0.02, limit: int = 100) -> Batcher[int, int]:
    return Batcher("doubling", run, most=most, wait=wait, limit=limit)


async def started(run: Doubling, batches: int) -> None:
    while len(run.batches) < batches:
        await asyncio.sleep(0.001)


def test_what_comes_together_runs_together() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run)
        assert await asyncio.gather(*(batches.do([n]) for n in range(5))) == [[0], [2], [4], [6], [8]]
        await batches.close()

    asyncio.run(ask())
    assert run.batches == [[0, 1, 2, 3, 4]]


def test_a_batch_is_never_larger_than_it_may_be() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run, most=2)
        assert await asyncio.gather(*(batches.do([n]) for n in range(5))) == [[0], [2], [4], [6], [8]]
        await batches.close()

    asyncio.run(ask())
    assert [len(batch) for batch in run.batches] == [2, 2, 1]


def test_a_batch_of_one() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run, most=1)
        await asyncio.gather(*(batches.do([n]) for n in range(3)))
        await batches.close()

    asyncio.run(ask())
    assert run.batches == [[0], [1], [2]]


def test_a_batch_waits_only_while_more_can_come() -> None:
    run = Doubling()

    async def ask() -> None:
        batches: Batcher[int, int] = Batcher(
            "doubling", run, most=8, wait=3600, limit=100, more=lambda: batches.waiting == 1
        )
        async with asyncio.timeout(60):
            assert await asyncio.gather(batches.do([1]), batches.do([2])) == [[2], [4]]
            await batches.close()

    asyncio.run(ask())
    assert run.batches == [[1, 2]]


def test_the_first_waits_no_longer_than_it_may() -> None:
    run = Doubling()

    async def ask() -> float:
        batches = batcher(run, wait=0.05)
        begin = asyncio.get_running_loop().time()
        await batches.do([1])
        await batches.close()
        return asyncio.get_running_loop().time() - begin

    assert 0.05 <= asyncio.run(ask()) < 1


def test_one_fault_is_nobody_elses() -> None:
    run = Doubling()

    async def ask() -> list[object]:
        batches = batcher(run)
        done = await asyncio.gather(*(batches.do([n]) for n in (1, 13, 2)), return_exceptions=True)
        await batches.close()
        return list(done)

    one, refused, two = asyncio.run(ask())
    assert (one, two) == ([2], [4])
    assert isinstance(refused, ValueError)


def test_a_full_queue_refuses_and_recovers() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run, most=1, wait=0, limit=2)
        run.gate.clear()
        first = asyncio.create_task(batches.do([0]))
        await started(run, 1)
        waiting = [asyncio.create_task(batches.do([n])) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(APIError) as refused:
            await batches.do([3])
        assert (refused.value.status_code, refused.value.headers) == (429, {"retry-after": "1"})
        run.gate.set()
        assert await asyncio.gather(first, *waiting) == [[0], [2], [4]]
        assert await batches.do([5]) == [10]
        await batches.close()

    asyncio.run(ask())


def test_who_leaves_takes_his_items_along() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run, most=1, wait=0)
        run.gate.clear()
        first = asyncio.create_task(batches.do([0]))
        await started(run, 1)
        leaving = asyncio.create_task(batches.do([7]))
        staying = asyncio.create_task(batches.do([8]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        assert batches.waiting == 1
        run.gate.set()
        assert await asyncio.gather(first, staying) == [[0], [16]]
        await batches.close()

    asyncio.run(ask())
    assert run.batches == [[0], [8]]


def test_closing_finishes_what_was_accepted() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run, most=1, wait=0)
        asked = [asyncio.create_task(batches.do([n])) for n in range(4)]
        await asyncio.sleep(0)
        await batches.close()
        assert await asyncio.gather(*asked) == [[0], [2], [4], [6]]

    asyncio.run(ask())


def test_closing_waits_for_the_batch_that_runs() -> None:
    run = Doubling()
    run.gate.clear()

    async def ask() -> None:
        batches = batcher(run, wait=0)
        asked = asyncio.create_task(batches.do([1]))
        await started(run, 1)
        closing = asyncio.create_task(batches.close())
        await asyncio.sleep(0.05)
        run.gate.set()
        assert await asyncio.wait_for(asked, 10) == [2]
        await closing

    asyncio.run(ask())


def test_a_list_stays_together_and_in_order() -> None:
    run = Doubling()

    async def ask() -> None:
        batches = batcher(run, most=4)
        assert await batches.do(list(range(10))) == [2 * n for n in range(10)]
        await batches.close()

    asyncio.run(ask())
    assert run.batches == [list(range(10))]
