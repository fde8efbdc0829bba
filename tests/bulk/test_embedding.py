import json
from pathlib import Path

import numpy as np
import pytest

import colours
from samples_of import jpeg, write_tar
from tuwen.bulk.embedding import Embedded, Shard, Wanted, embed
from tuwen.data.samples import Listed
from tuwen.data.webdataset import list_tar
from tuwen.runtime.pipeline import BATCH
from tuwen.types import Rejected

BOTH = Wanted(images=True, texts=True)


@pytest.fixture
def listed(tmp_path: Path) -> list[Listed]:
    """80 samples: each tenth has no caption, each ninth no picture, the 33rd is broken."""
    members: dict[str, bytes] = {}
    for i in range(80):
        if i % 9 != 8:
            members[f"{i:03}.jpg"] = b"\xff\xd8\xff broken" if i == 33 else jpeg(i)
        if i % 10 != 9:
            members[f"{i:03}.txt"] = f"a photo of {list(colours.COLOURS)[i % 5]}".encode()
        members[f"{i:03}.json"] = json.dumps({"n": i}).encode()
    return [item for item in list_tar(write_tar(tmp_path / "0.tar", members), "") if isinstance(item, Listed)]


def run(shards: list[Shard], encoder, wanted: Wanted = BOTH) -> tuple[list[Embedded], list[int]]:
    events = list(embed(shards, wanted, encoder))
    return [event for event in events if isinstance(event, Embedded)], [e for e in events if isinstance(e, int)]


def test_every_vector_is_its_samples(listed, encoder) -> None:
    (shard,), seen = run([Shard(0, listed)], encoder)
    assert sum(seen) == len(listed) == 80
    assert shard.rejected == [Rejected("033.jpg", shard.rejected[0].reason)]
    assert (len(shard.items), shard.skipped) == (79, 0)
    for item in shard.items:
        number = int(item.sample.key)
        assert (item.image is None) == (number % 9 == 8)
        assert (item.text is None) == (number % 10 == 9)
        if item.image is not None:
            np.testing.assert_allclose(shard.images[item.image], encoder.encode_images([jpeg(number)])[0], atol=1e-6)
            assert (item.picture["width"], item.picture["bytes"]) == (40, len(jpeg(number)))
        if item.text is not None:
            text = encoder.encode_texts(list(item.sample.captions))[0]
            np.testing.assert_allclose(shard.texts[item.text], text, atol=1e-6)
        assert item.sample.extra == {"n": number}


def test_the_same_shard_gives_the_same_bytes(listed, encoder, monkeypatch) -> None:
    shards = [Shard(0, listed[:50]), Shard(1, listed[50:])]
    first, _ = run(shards, encoder)
    monkeypatch.setattr(encoder, "threads", 4)
    second, _ = run(shards[1:], encoder)
    assert [shard.number for shard in first] == [0, 1]
    assert first[1].images.tobytes() == second[0].images.tobytes()
    assert first[1].texts.tobytes() == second[0].texts.tobytes()


def test_one_side_alone(listed, encoder) -> None:
    (images,), _ = run([Shard(0, listed)], encoder, Wanted(images=True, texts=False))
    assert (len(images.images), len(images.texts), images.skipped) == (71, 0, 8)
    (texts,), _ = run([Shard(0, listed)], encoder, Wanted(images=False, texts=True))
    assert (len(texts.images), len(texts.texts), texts.skipped, texts.rejected) == (0, 72, 8, [])


def test_pairs_want_both(listed, encoder) -> None:
    (shard,), _ = run([Shard(0, listed)], encoder, Wanted(images=True, texts=True, paired=True))
    reasons = [item.reason.split(",")[0] for item in shard.rejected]
    assert (reasons.count("has no image"), reasons.count("has no caption"), len(reasons)) == (8, 8, 17)
    assert len(shard.items) == len(shard.images) == len(shard.texts) == 63


def test_long_captions_are_counted(encoder) -> None:
    listed = [Listed(str(i), captions=("red " * (3 if i else 99),)) for i in range(3)]
    (shard,), _ = run([Shard(0, listed)], encoder)
    assert (shard.truncated, len(shard.texts)) == (1, 3)


def test_no_sample_no_row(encoder) -> None:
    (shard,), _ = run([Shard(0, [])], encoder)
    assert shard.images.shape == (0, encoder.dim)
    assert shard.items == []


def test_what_runs_ahead_is_bounded(listed, encoder) -> None:
    taken = []
    many = (taken.append(i) or listed[i % 30] for i in range(2000))
    steps = embed([Shard(0, many)], BOTH, encoder)
    next(steps)
    assert len(taken) <= 6 * BATCH
    steps.close()
