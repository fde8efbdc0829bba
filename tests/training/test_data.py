"""Batches: everything once, the same whatever reads them, resumed to the pair."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch

import tiny
from training.making import PLAIN, caption, numbers_of, picture, same, stream_of, write_pairs
from tuwen.data.decode import read_image, reading_for
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.errors import InvalidInput
from tuwen.training.config import AugmentConfig, DataConfig, Jitter, PairSource
from tuwen.training.data import Batch, Stream
from tuwen.training.pairs import Part

COUNT = 23
ALL = range(COUNT)
RANDOM = AugmentConfig(flip=0.5, grayscale=0.2, jitter=Jitter(brightness=0.4, hue=0.1))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), ALL)


def epochs(stream: Stream, count: int) -> list[list[Batch]]:
    return [list(stream) for _ in range(count)]


def run(stream: Stream, count: int) -> list[Batch]:
    """The batches of some epochs, one after the other."""
    return [batch for epoch in epochs(stream, count) for batch in epoch]


def test_a_batch_is_pictures_with_their_own_captions(pairs: Path) -> None:
    (first, *_) = stream_of(pairs)
    assert first.pixels.shape == (4, 3, tiny.SIZE, tiny.SIZE)
    assert (first.pixels.dtype, first.ids.dtype, first.mask.dtype) == (torch.float32, torch.int64, torch.int64)
    tokenizer = Tokenizer(tiny.tokenizer_json(), tiny.TEXT)
    for row, number in enumerate(numbers_of([first], ALL)):
        read = read_image(picture(number), "x.jpg", reading_for(tiny.IMAGE, exact=False, max_pixels=10**6))
        assert (first.pixels[row].numpy() == to_pixels(tiny.IMAGE, [read.image])[0]).all()
        ids = tokenizer.to_tokens([caption(number)])
        length = int(ids.lengths[0])
        assert first.mask[row].sum() == length
        assert first.ids[row, :length].tolist() == ids.ids[0, :length].tolist()


def test_texts_are_cut_to_the_longest_where_that_is_exact(pairs: Path) -> None:
    (first, *_) = stream_of(pairs)
    assert first.ids.shape[1] == first.mask.sum(dim=1).max() < tiny.CONTEXT
    (whole, *_) = stream_of(pairs, text=tiny.TEXT.model_copy(update={"cut_exact": False}))
    (asked, *_) = stream_of(DataConfig(train=(PairSource(path=pairs),), cut=False))
    assert whole.ids.shape[1] == asked.ids.shape[1] == tiny.CONTEXT
    assert whole.ids[:, : first.ids.shape[1]].equal(first.ids)
    assert (whole.ids[:, first.ids.shape[1] :] == tiny.TEXT.pad_id).all()
    assert whole.text_keys.equal(first.text_keys)


def test_keys_are_equal_where_content_is(tmp_path: Path) -> None:
    for name, number, text in [("a", 1, "the dog"), ("b", 1, "the cat"), ("c", 2, " THE  dog ")]:
        (tmp_path / f"{name}.jpg").write_bytes(picture(number))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    (batch,) = stream_of(tmp_path, batch=3, buffer=None)
    a, b, c = range(3)
    assert batch.image_keys[a] == batch.image_keys[b] != batch.image_keys[c]
    assert batch.text_keys[a] == batch.text_keys[c] != batch.text_keys[b]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 3])
def test_processes_together_take_everything_once(pairs: Path, world: int, workers: int) -> None:
    batch = 2
    parts = [
        epochs(stream_of(pairs, batch=batch, part=Part(rank, world), workers=workers, drop_last=False), 1)[0]
        for rank in range(world)
    ]
    assert len({tuple(len(one) for one in part) for part in parts}) == 1  # as long in every process
    taken = [number for part in parts for number in numbers_of(part, ALL)]
    assert set(taken) == set(ALL)
    assert len(taken) - COUNT < world
    full = [number for part in parts for number in numbers_of(part[: COUNT // (batch * world)], ALL)]
    assert len(full) == len(set(full)) == COUNT // (batch * world) * batch * world


def test_processes_take_what_one_would(pairs: Path) -> None:
    alone = list(stream_of(pairs, batch=6))
    both = [list(stream_of(pairs, batch=3, part=Part(rank, 2))) for rank in range(2)]
    for whole, left, right in zip(alone, *both, strict=True):
        assert torch.cat([left.pixels, right.pixels]).equal(whole.pixels)


def test_no_last_batch_that_is_not_full(pairs: Path) -> None:
    stream = stream_of(pairs)
    assert [len(batch) for batch in stream] == [4] * (COUNT // 4) == [4] * len(stream)


@pytest.mark.parametrize("augment", [PLAIN, RANDOM], ids=["plain", "random"])
def test_threads_change_nothing(pairs: Path, augment: AugmentConfig) -> None:
    alone = run(stream_of(pairs, augment), 2)
    for workers in (1, 2, 5):
        assert same(alone, run(stream_of(pairs, augment, workers=workers), 2))


def test_epochs_seeds_and_pictures_differ(pairs: Path) -> None:
    stream = stream_of(pairs, RANDOM, drop_last=False)
    first, second = epochs(stream, 2)
    assert stream.epoch == 2
    assert sorted(numbers_of(first, ALL)) == sorted(numbers_of(second, ALL)) == list(ALL)
    assert numbers_of(first, ALL) != numbers_of(second, ALL)
    assert not same(first, list(stream_of(pairs, RANDOM, drop_last=False, seed=2)))
    unmixed = stream_of(pairs, RANDOM, batch=COUNT, buffer=None)
    (one,), (other,) = epochs(unmixed, 2)
    assert one.image_keys.equal(other.image_keys)
    assert not one.pixels.equal(other.pixels)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 3, 5, 7])
def test_a_run_that_is_broken_off_goes_on_exactly(pairs: Path, stop: int, workers: int) -> None:
    whole = run(stream_of(pairs, RANDOM, workers=workers), 2)
    stream, done = stream_of(pairs, RANDOM, workers=workers), []
    while len(done) < stop:
        done += islice(stream, stop - len(done))
    state = json.loads(json.dumps(stream.state()))
    again = stream_of(pairs, RANDOM, workers=2)
    again.load_state(state)
    rest = [*again, *again] if again.epoch == 0 else list(again)
    assert same(whole, [*done, *rest])


def test_the_state_is_after_the_batch_in_use(pairs: Path) -> None:
    stream = stream_of(pairs, workers=3)
    whole = list(stream_of(pairs))
    for batch in stream:
        again = stream_of(pairs)
        again.load_state(stream.state())
        following = next(iter(again)) if again.state()["place"]["batches"] < len(again) else None
        number = next(i for i, each in enumerate(whole) if same([each], [batch]))
        assert following is None or same([following], [whole[number + 1]])


def test_a_state_of_something_else_is_refused(pairs: Path, tmp_path: Path) -> None:
    state = stream_of(pairs).state()
    for other in (
        stream_of(pairs, batch=5),
        stream_of(pairs, seed=2),
        stream_of(pairs, part=Part(1, 2)),
        stream_of(write_pairs(tmp_path, range(22))),
    ):
        with pytest.raises(InvalidInput) as raised:
            other.load_state(state)
        assert raised.value.where in {"pairs", "batch", "seed", "rank", "world", "buffer", "drop_last"}


def spoil(folder: Path, numbers: Sequence[int]) -> None:
    for number in numbers:
        (folder / f"{number % 2}" / f"{number:05d}.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_what_cannot_be_read_is_skipped_and_counted(tmp_path: Path, world: int, workers: int) -> None:
    spoil(write_pairs(tmp_path, ALL), [3, 8])
    (tmp_path / "0" / "00004.txt").unlink()
    (tmp_path / "1" / "00005.txt").write_text(" \n", encoding="utf-8")
    data = DataConfig(train=(PairSource(path=tmp_path),), max_bad=0.5)
    streams = [stream_of(data, part=Part(rank, world), workers=workers) for rank in range(world)]
    taken = [number for stream in streams for number in numbers_of(list(stream), ALL)]
    assert not {3, 8, 4, 5} & set(taken)
    assert len(taken) == len(streams[0]) * 4 * world  # others took their places
    skipped = {key: reason for stream in streams for key, reason in stream.skipped.items()}
    assert skipped["0/00004"] == skipped["1/00005"] == "has no caption"
    assert all(skipped[key] for key in ("1/00003", "0/00008"))
    assert len(skipped) == 4


def test_all_good_ones_come_though_others_are_bad(tmp_path: Path) -> None:
    spoil(write_pairs(tmp_path, ALL), [3, 8, 9])
    stream = stream_of(DataConfig(train=(PairSource(path=tmp_path),), max_bad=0.5, drop_last=False))
    assert set(numbers_of(list(stream), ALL)) == set(ALL) - {3, 8, 9}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_over_too_many_bad_ones_stops(tmp_path: Path, workers: int) -> None:
    spoil(write_pairs(tmp_path, ALL), range(0, COUNT, 4))
    data = DataConfig(train=(PairSource(path=tmp_path),), max_bad=0.2)
    with pytest.raises(InvalidInput) as raised:
        list(stream_of(data, workers=workers))
    assert (raised.value.value, raised.value.where) == (5, "data.max_bad")
    spoil(tmp_path, ALL)
    with pytest.raises(InvalidInput) as raised:
        list(stream_of(data, workers=workers))
    assert raised.value.where == "data.max_bad"


def test_a_listing_with_too_many_bad_ones_is_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, ALL)
    for caption_file in (tmp_path / "0").glob("*.txt"):
        caption_file.unlink()
    with pytest.raises(InvalidInput) as raised:
        stream_of(tmp_path)
    assert raised.value.value == 12


def test_too_few_pairs_are_told(pairs: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        stream_of(pairs, batch=30)
    assert raised.value.value == 23
