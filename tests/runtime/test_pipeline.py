import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuwen.data.files import Skipped
from tuwen.data.samples import Sample
from tuwen.errors import InvalidInput
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.pipeline import MOST_REJECTED, batched, prefetch, run
from tuwen.types import Rejected, Source


def test_results_keep_the_order_of_the_items() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 5 == 0 else 0)
        return number * 2

    assert list(prefetch(slow_first, range(40), threads=4, depth=8)) == [2 * number for number in range(40)]


def test_the_number_of_items_in_flight_is_bounded() -> None:
    drawn = []

    def draw() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = prefetch(int, draw(), threads=4, depth=5)
    next(results)
    assert len(drawn) == 6
    next(results)
    assert len(drawn) == 7
    results.close()


def test_an_error_of_a_stage_is_raised_in_its_place() -> None:
    def fails_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = prefetch(fails_at_three, range(10), threads=2, depth=4)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_closing_drops_what_has_not_started_and_leaves_no_thread() -> None:
    started, go = [], threading.Event()

    def wait(number: int) -> int:
        started.append(number)
        if number:
            go.wait(10)
        return number

    before = threading.active_count()
    results = prefetch(wait, range(100), threads=1, depth=20)
    assert next(results) == 0
    go.set()
    results.close()
    assert len(started) < 21
    assert threading.active_count() == before


def test_batches_are_of_one_size_but_the_last() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []


def pairs(items: Iterable[int]) -> Iterator[list[int]]:
    return batched(items, 2)


@pytest.mark.parametrize("threads", [1, 4])
def test_stages_run_in_their_own_threads_and_in_order(threads: int) -> None:
    prepared_in, encoded_in, caller = set(), set(), threading.current_thread().name

    def prepare(number: int) -> int:
        prepared_in.add(threading.current_thread().name)
        return number * 10

    def encode(batch: list[int]) -> int:
        encoded_in.add(threading.current_thread().name)
        return sum(batch)

    assert list(run(range(5), prepare, pairs, encode, threads=threads, batch=2)) == [10, 50, 40]
    assert len(encoded_in) == 1
    assert caller not in prepared_in | encoded_in


@pytest.mark.parametrize("stage", ["items", "prepare", "encode"])
def test_an_error_anywhere_stops_all_stages(stage: str) -> None:
    def fail_at(number: int, here: str) -> int:
        if number == 7 and stage == here:
            raise ValueError(stage)
        return number

    before = threading.active_count()
    items = (fail_at(number, "items") for number in range(100))
    results = run(
        items,
        lambda number: fail_at(number, "prepare"),
        pairs,
        lambda batch: [fail_at(number, "encode") for number in batch],
        threads=2,
        batch=2,
    )
    with pytest.raises(ValueError, match=stage):
        list(results)
    assert threading.active_count() == before


def grey(level: int) -> Image.Image:
    return Image.fromarray(np.full((9, 9, 3), level, dtype=np.uint8))


def png(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey(level).save(path)
    return path


@pytest.mark.parametrize("count", [0, 1, 4, 5, 40])
def test_a_stream_has_the_vectors_of_its_images_in_equal_batches(encoder: Encoder, count: int) -> None:
    images = [grey(5 * level) for level in range(count)]
    batches = list(encoder.stream(images, batch=4))
    assert [len(batch.vectors) for batch in batches] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    assert [key for batch in batches for key in batch.keys] == [f"images[{number}]" for number in range(count)]
    vectors = np.concatenate([np.empty((0, encoder.dim), np.float32), *(batch.vectors for batch in batches)])
    np.testing.assert_allclose(vectors, encoder.encode_images(images), atol=1e-6)


def test_broken_images_are_results_and_batches_stay_equal(encoder: Encoder, tmp_path: Path) -> None:
    images = [grey(1), b"nonsense", tmp_path / "absent.png", str(tmp_path / "absent.jpg"), grey(2), grey(3), b""]
    first, second = encoder.stream(images, batch=2)
    assert (first.keys, second.keys) == (("images[0]", "images[4]"), ("images[5]",))
    assert [item.path for item in (*first.rejected, *second.rejected)] == [
        "images[1]",
        str(tmp_path / "absent.png"),
        str(tmp_path / "absent.jpg"),
        "images[6]",
    ]


def test_a_stream_of_nothing_but_broken_images_is_bounded_too(encoder: Encoder) -> None:
    drawn = []
    broken = (drawn.append(number) or b"nonsense" for number in range(1000))
    stream = encoder.stream(broken, batch=4)
    batch = next(stream)
    assert (len(batch.rejected), batch.vectors.shape) == (4 * MOST_REJECTED, (0, encoder.dim))
    assert len(drawn) < 100
    stream.close()


def test_a_path_stands_for_its_folder(encoder: Encoder, tmp_path: Path) -> None:
    png(tmp_path / "a" / "1.png", 10)
    png(tmp_path / "2.png", 20)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.png").write_bytes(b"x")
    for place in (tmp_path, str(tmp_path)):
        (batch,) = encoder.stream(place)
        assert batch.keys == ("2.png", "a/1.png")
        assert [item.path for item in batch.rejected] == ["broken.png"]
    (batch,) = encoder.stream(tmp_path / "2.png")
    assert batch.keys == ("2.png",)


def test_items_of_folders_and_datasets_keep_their_keys(encoder: Encoder, tmp_path: Path) -> None:
    file = png(tmp_path / "1.png", 10)
    items = [
        Source("one", file, file.stat().st_size, 0.0),
        Sample("two", "two.png", "", file.read_bytes(), (), {}, 0.0),
        Sample("three", "", "", None, (), {}, 0.0),
        Rejected("four", "was rejected"),
        Skipped(tmp_path),
    ]
    (batch,) = encoder.stream(items)
    assert batch.keys == ("one", "two")
    assert [item.path for item in batch.rejected] == ["three", "four"]


def test_own_keys_come_back(encoder: Encoder) -> None:
    (batch,) = encoder.stream([(("any", 1), grey(1)), (None, b"broken"), (2, grey(2))])
    assert batch.keys == (("any", 1), 2)
    assert [item.path for item in batch.rejected] == ["None"]


@pytest.mark.parametrize("image", [b"", Image.new("RGB", (9, 9))])
def test_one_image_is_not_several(encoder: Encoder, image: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoder.stream(image)
    assert caught.value.value is image


def test_a_batch_has_at_least_one_image(encoder: Encoder) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoder.stream([], batch=0)
    assert (caught.value.value, caught.value.where) == (0, "batch")
