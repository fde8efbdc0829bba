"""Bulk embedding as it is typed: what comes out, what is refused, and kills at any moment."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import colours
from journeys.test_killed import rows
from samples_of import jpeg, write_tar

pytestmark = [pytest.mark.journey, pytest.mark.long]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two archives of 40 pairs each; in the second, one picture is broken and one has no caption."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        members: dict[str, bytes] = {}
        for i in range(40):
            key = f"{shard:05}{i:04}"
            members[f"{key}.jpg"] = b"\xff\xd8\xff broken" if (shard, i) == (1, 7) else jpeg(shard * 40 + i)
            if (shard, i) != (1, 9):
                members[f"{key}.txt"] = f"a photo of {list(colours.COLOURS)[i % 5]}".encode()
            members[f"{key}.json"] = json.dumps({"url": f"u{i}", "width": i}).encode()
        write_tar(folder / f"{shard:05}.tar", members)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_webdataset_to_clip_retrieval(terminal, bundle: Path, shards: Path) -> None:
    words = ("embed", "shards", "-o", "out", "--model", bundle, "--shard-size", "30")
    ended = terminal.type(*words, "--json", "--progress", "json", code=3)
    report = ended.json
    assert (report["samples"], report["embedded"], report["images"], report["texts"]) == (80, 78, 78, 78)
    assert [item["path"] for item in report["rejected"]] == ["00001.tar/000010007.jpg", "00001.tar/000010009.jpg"]
    assert '{"committed": 80}' in ended.err
    out = terminal.folder / "out"
    names = sorted(path.name for path in (out / "img_emb").iterdir())
    assert names == ["img_emb_0.npy", "img_emb_1.npy", "img_emb_2.npy"]
    images = np.concatenate([np.load(out / "img_emb" / name) for name in names])
    assert (images.shape, images.dtype) == ((78, colours.DIM), np.float16)
    rows = [row for i in range(3) for row in pq.read_table(out / "metadata" / f"metadata_{i}.parquet").to_pylist()]
    assert (rows[0]["image_path"], rows[0]["caption"], rows[0]["url"]) == ("000000000", "a photo of red", "u0")
    before = content(out)
    terminal.type(*words, code=3)
    assert content(out) == before
    for change, expected in ({"--shard-size": "31"}, "shard_size 30, not 31"), ({"--only": "texts"}, "only None"):
        refused = terminal.type(*words, *(word for pair in change.items() for word in pair), code=2)
        assert expected in refused.err
        assert len(refused.err.splitlines()) == 1
    write_tar(shards / "00002.tar", {"x.jpg": jpeg(1), "x.txt": b"red"})
    assert "other input" in terminal.type(*words, code=2).err


def test_an_index_of_pictures_and_captions(terminal, bundle: Path, shards: Path) -> None:
    words = ("embed", "shards", "-o", "i.tuwen", "--format", "index", "--model", bundle, "--shard-size", "50")
    report = terminal.type(*words, "--json", code=3).json
    assert (report["images"], report["texts"], len(report["rejected"])) == (79, 78, 1)
    assert terminal.type("index", "info", "--index", "i.tuwen", "--json").json["rows"] == 79 + 78
    where = ("--where", 'type == "image"', "--index", "i.tuwen", "--json")
    rows = terminal.type("index", "list", *where).json["rows"]
    assert rows[0]["payload"]["path"] == "00000.tar/000000000.jpg"
    assert (rows[0]["payload"]["url"], rows[0]["payload"]["width"]) == ("u0", 40)


def test_single_items(terminal, bundle: Path) -> None:
    colours.picture("red").save(terminal.folder / "cat.jpg")
    found = terminal.type("embed", "cat.jpg", "a cat", "--model", bundle, "--json").json
    assert [(item["input"], item["type"]) for item in found["vectors"]] == [("cat.jpg", "image"), ("a cat", "text")]
    lines = terminal.type("embed", "a cat", "--model", bundle).out.splitlines()
    assert json.loads(lines[0]) == found["vectors"][1]["vector"]
    terminal.type("embed", "cat.jpg", "a cat", "--model", bundle, "-o", "x.npy")
    np.testing.assert_array_equal(
        np.load(terminal.folder / "x.npy"), np.float32([item["vector"] for item in found["vectors"]])
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("shards",), "-o OUT"),
        (("shards", "a cat", "-o", "out"), "'a cat'"),
        (("none.tar", "-o", "out"), "none.tar does not exist"),
        (("none.jpg",), "none.jpg does not exist"),
        (("a cat", "-o", "x.txt"), ".npy"),
        (("shards", "-o", "shards"), "not an embedding job"),
    ],
)
def test_slips_are_told_in_one_line(
    terminal, bundle: Path, shards: Path, words: tuple[str, ...], expected: str
) -> None:
    ended = terminal.type("embed", *words, "--model", bundle, code=2)
    assert expected in ended.err


def check_kills(terminal, words: tuple[object, ...], kills: int, seed: int) -> None:
    """Kill the job again and again, each time some shards further; it must end with the same bytes."""
    terminal.type("embed", *words, "-o", "whole", code=3)
    done = terminal.folder / "killed" / "embedding" / "done"
    chance, counts = random.Random(seed), list[int]()
    for _ in range(kills):
        process = terminal.start("embed", *words, "-o", "killed")
        enough = len(list(done.glob("*.json"))) + chance.randrange(8)
        while process.poll() is None and len(list(done.glob("*.json"))) < enough:
            time.sleep(0.001)
        time.sleep(chance.random() / 50)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts.append(len(list(done.glob("*.json"))))
    assert 0 < counts[-1] < 80, f"kills came too early or too late: {counts}"
    terminal.type("embed", *words, "-o", "killed", code=3)
    assert content(terminal.folder / "killed") == content(terminal.folder / "whole")


def test_a_killed_job_ends_with_the_same_bytes(terminal, bundle: Path, shards: Path) -> None:
    check_kills(terminal, ("shards", "--model", bundle, "--shard-size", "1", "--format", "npy"), kills=4, seed=3)


@pytest.mark.parametrize("layout", ["clip-retrieval", "parquet", "arrow", "npy"])
def test_a_job_killed_often_ends_with_the_same_bytes(terminal, bundle: Path, shards: Path, layout: str) -> None:
    words = ("shards", "--model", bundle, "--shard-size", "1", "--format", layout)
    check_kills(terminal, words, kills=15, seed=5)


def test_an_index_whose_job_is_killed_often_has_the_same_rows(terminal, bundle: Path, shards: Path) -> None:
    words = ("embed", "shards", "--model", bundle, "--shard-size", "1", "--format", "index", "-o")
    terminal.type(*words, "whole.tuwen", code=3)
    done, chance = terminal.folder / "killed.tuwen" / "embedding" / "done", random.Random(7)
    for _ in range(8):
        process = terminal.start(*words, "killed.tuwen")
        enough = len(list(done.glob("*.json"))) + chance.randrange(8)
        while process.poll() is None and len(list(done.glob("*.json"))) < enough:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    terminal.type(*words, "killed.tuwen", code=3)
    whole, killed = rows(terminal.folder / "whole.tuwen"), rows(terminal.folder / "killed.tuwen")
    assert list(killed) == list(whole)
    for key, (payload, vector) in whole.items():
        assert killed[key][0] == payload
        np.testing.assert_array_equal(killed[key][1], vector)
