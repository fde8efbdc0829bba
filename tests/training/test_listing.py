"""Pairs are found by key in whatever people have, each with its own captions, each once."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import pyarrow
import pyarrow.parquet
import pytest

from samples_of import write_tar
from training.making import caption, numbers_of, picture, stream_of, write_pairs
from tuwen.data.samples import read_sample
from tuwen.errors import InvalidInput
from tuwen.training.config import DataConfig, PairSource
from tuwen.training.pairs import Listing

COUNT = 12
ALL = range(COUNT)
SHUFFLED = Random(3).sample(ALL, COUNT)


def of_files(folder: Path) -> PairSource:
    return PairSource(path=write_pairs(folder, ALL))


def of_img2dataset_files(folder: Path) -> PairSource:
    for number in ALL:
        base = folder / f"{number // 5:05d}" / f"{number // 5:05d}{number:04d}"
        base.parent.mkdir(exist_ok=True)
        base.with_suffix(".jpg").write_bytes(picture(number))
        base.with_suffix(".txt").write_text(caption(number), encoding="utf-8")
        base.with_suffix(".json").write_text(json.dumps({"caption": "another", "key": base.name}))
    rows = {"caption": [caption(number) for number in ALL], "url": [f"https://x/{n}.jpg" for n in ALL]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "00000.parquet")  # the list that stands beside
    return PairSource(path=folder)


def of_tars(folder: Path) -> PairSource:
    for shard in range(3):
        members = []
        for number in [number for number in SHUFFLED if number % 3 == shard]:
            members.append((f"{number:09d}.jpg", picture(number)))
            members.append((f"{number:09d}.json", b'{"caption": "another"}'))
        in_order = [number for number in ALL if number % 3 == shard]  # captions in another order than pictures
        members += [(f"{number:09d}.txt", caption(number).encode()) for number in in_order]
        write_tar(folder / f"{shard:05d}.tar", members)
    return PairSource(path=folder)


def of_parquet_bytes(folder: Path) -> PairSource:
    rows = {"caption": [caption(n) for n in SHUFFLED], "jpg": [picture(n) for n in SHUFFLED]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "00000.parquet", row_group_size=5)
    return PairSource(path=folder / "00000.parquet")


def of_parquet_paths(folder: Path) -> PairSource:
    write_pairs(folder / "pictures", ALL)
    rows = {"text": [caption(n) for n in SHUFFLED], "path": [f"{n % 2}/{n:05d}.jpg" for n in SHUFFLED]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "x.parquet", row_group_size=5)
    return PairSource(path=folder / "x.parquet", images=folder / "pictures")


def of_table(folder: Path, ending: str, mark: str) -> PairSource:
    write_pairs(folder, ALL)
    lines = [f"filepath{mark}title", *(f"{n % 2}/{n:05d}.jpg{mark}{caption(n)}" for n in SHUFFLED)]
    (folder / f"x{ending}").write_text("\n".join(lines), encoding="utf-8")
    return PairSource(path=folder / f"x{ending}")


def of_json_lines(folder: Path) -> PairSource:
    write_pairs(folder / "pictures", ALL)
    rows = [{"picture": f"{n % 2}/{n:05d}.jpg", "said": [caption(n)]} for n in SHUFFLED]
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return PairSource(path=folder / "x.jsonl", images=folder / "pictures", image="picture", captions="said")


def of_karpathy(folder: Path) -> PairSource:
    write_pairs(folder / "pictures", ALL)
    entries = [
        {
            "filepath": f"{n % 2}",
            "filename": f"{n:05d}.jpg",
            "split": ("train", "restval")[n % 2],
            "sentences": [{"raw": caption(n)}],
        }
        for n in SHUFFLED
    ]
    other = {"filename": "x.jpg", "split": "test", "sentences": [{"raw": "x"}]}
    (folder / "dataset.json").write_text(json.dumps({"images": [*entries, other]}))
    return PairSource(path=folder / "dataset.json", images=folder / "pictures")


KINDS: Mapping[str, Callable[[Path], PairSource]] = {
    "files": of_files,
    "img2dataset files": of_img2dataset_files,
    "tars": of_tars,
    "parquet of bytes": of_parquet_bytes,
    "parquet of paths": of_parquet_paths,
    "csv": lambda folder: of_table(folder, ".csv", ","),
    "tsv": lambda folder: of_table(folder, ".tsv", "\t"),
    "json lines": of_json_lines,
    "karpathy": of_karpathy,
}


def captions_by_picture(source: PairSource, workers: int = 0) -> dict[int, list[int]]:
    """Picture -> the ids of the caption that came with it, over one epoch."""
    stream = stream_of(DataConfig(train=(source,)), batch=5, drop_last=False, workers=workers)
    found = {}
    for batch in stream:
        for number, ids, mask in zip(numbers_of([batch], ALL), batch.ids, batch.mask, strict=True):
            assert number not in found
            found[number] = ids[: int(mask.sum())].tolist()
    assert stream.skipped == {}
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[int]]:
    return captions_by_picture(of_files(tmp_path_factory.mktemp("files")))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_comes_once_with_its_own_caption(
    kind: str, workers: int, tmp_path: Path, expected: dict[int, list[int]]
) -> None:
    assert len({tuple(ids) for ids in expected.values()}) == COUNT
    assert captions_by_picture(KINDS[kind](tmp_path), workers) == expected


@pytest.mark.parity
def test_shards_of_webdataset_are_read_as_it_reads_them(tmp_path: Path, expected: dict[int, list[int]]) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(f"{tmp_path}/%05d.tar", maxcount=5, verbose=0) as writer:
        for number in SHUFFLED:
            writer.write({"__key__": f"{number:09d}", "jpg": picture(number), "txt": caption(number)})
    theirs = {}
    for shard in sorted(tmp_path.glob("*.tar")):
        with shard.open("rb") as file:
            members = [{**member, "__url__": shard.name} for member in webdataset.tariterators.tar_file_iterator(file)]
        for sample in webdataset.tariterators.group_by_keys(members):
            theirs[f"{shard.name}/{sample['__key__']}"] = (sample["jpg"], (sample["txt"].decode(),))
    listing = Listing([PairSource(path=tmp_path)])
    read = [read_sample(listing[number].listed) for number in range(len(listing))]
    assert {sample.key: (sample.image, sample.captions) for sample in read} == theirs
    assert captions_by_picture(PairSource(path=tmp_path)) == expected


def test_sources_are_joined(tmp_path: Path) -> None:
    sources = []
    for place, numbers in enumerate((range(3), range(3, 8), range(8, COUNT))):
        (tmp_path / f"{place}").mkdir()
        sources.append(PairSource(path=write_pairs(tmp_path / f"{place}", numbers)))
    stream = stream_of(DataConfig(train=tuple(sources)), drop_last=False)
    assert sorted(numbers_of(list(stream), ALL)) == list(ALL)
    listing = Listing(sources)
    assert len({listing[number].key for number in range(len(listing))}) == len(listing) == COUNT


def test_archives_are_shards_and_files_stand_alone(tmp_path: Path) -> None:
    tars, files = of_tars(tmp_path), of_files(tmp_path / "files")
    assert Listing([PairSource(path=tars.path / f"{n:05d}.tar") for n in range(3)]).shards.tolist() == [0, 4, 8]
    assert Listing([files]).shards.tolist() == list(ALL)


def test_the_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    here, there = (Listing([of_files(tmp_path / name)]).fingerprint for name in ("here", "there"))
    assert here == there
    (tmp_path / "there" / "0" / "00000.jpg").write_bytes(b"other")
    assert Listing([PairSource(path=tmp_path / "there")]).fingerprint != here


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "none"},
        {"path": "x.txt"},
        {"path": "x.zip"},
        {"path": ".", "images": "y"},
        {"path": ".", "splits": ("train",)},
        {"path": "k.json", "splits": ("dev",)},
        {"path": "e.json"},
        {"path": "t.csv", "image": "x"},
    ],
)
def test_sources_without_pairs(tmp_path: Path, settings: dict[str, object]) -> None:
    (tmp_path / "x.txt").write_text("a\n")
    (tmp_path / "x.zip").write_text("a\n")
    (tmp_path / "e.json").write_text("{}")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "k.json").write_text('{"images": [{"split": "train"}]}')
    path = tmp_path / str(settings["path"])
    with pytest.raises(InvalidInput) as raised:
        Listing([PairSource(**{**settings, "path": path})])
    assert path in (raised.value.where, raised.value.value)
