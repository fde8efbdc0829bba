import csv
import json
import math
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples_of import jpeg, write_tar
from tuwen.data.datasets import Dataset, Example, SampleReader, expanded, is_bulk, list_samples, open_dataset, root_of
from tuwen.data.samples import Columns, Listed, Sample
from tuwen.data.tables import NO_VALUE
from tuwen.errors import InvalidInput


def keys(*sources: Path) -> list[str]:
    return [item.key for item in list_samples(sources, Columns()) if isinstance(item, Listed)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two folders with a picture each, and archives that hold the same keys."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.jpg").write_bytes(jpeg())
        write_tar(tmp_path / name / "0.tar", {"cat.jpg": jpeg()})
    (tmp_path / "t.txt").write_text("a\nb\n", encoding="utf-8")
    return tmp_path


def test_no_two_samples_have_the_same_key(folder: Path) -> None:
    assert keys(folder / "one") == ["0.tar/cat", "cat"]
    assert keys(folder / "one" / "0.tar") == ["cat"]
    assert keys(folder / "one", folder / "two", folder / "t.txt") == [
        *("one/0.tar/cat", "one/cat", "two/0.tar/cat", "two/cat", "t.txt/1", "t.txt/2")
    ]
    assert keys(folder) == ["one/0.tar/cat", "one/cat", "two/0.tar/cat", "two/cat"]


def test_roots(folder: Path) -> None:
    assert root_of([folder / "one"]) == folder / "one"
    assert root_of([folder / "t.txt"]) == folder
    assert root_of([folder / "one", folder / "two"]) == folder


def test_what_is_bulk(folder: Path) -> None:
    assert is_bulk(folder)
    assert is_bulk(folder / "X.TAR")
    assert not is_bulk(folder / "one" / "cat.jpg")
    assert not is_bulk(Path("狗" * 100))  # a text that is longer than any name


def test_braces_stand_for_several_files_as_in_webdataset(folder: Path) -> None:
    for number in range(12):
        write_tar(folder / f"{number:05}.tar", {f"{number}.jpg": jpeg(), f"{number}.txt": b"a cat"})
    pattern = folder / "{00000..00011}.tar"
    assert keys(pattern) == [f"{number:05}.tar/{number}" for number in range(12)]
    assert root_of([pattern]) == folder
    assert keys(folder / "{one,two}" / "0.tar") == ["one/0.tar/cat", "two/0.tar/cat"]
    assert len(open_dataset(pattern)) == 12
    (folder / "{a,b}").mkdir()
    assert expanded(folder / "{a,b}") == [folder / "{a,b}"]
    for wrong in ("{00000..00012}.tar", "{0.tar"):
        with pytest.raises(InvalidInput):
            keys(folder / wrong)


def test_sources_that_cannot_be_used(folder: Path) -> None:
    for sources in ([folder / "no"], [folder / "one" / "cat.jpg"], [folder, folder / "one"]):
        with pytest.raises(InvalidInput) as raised:
            keys(*sources)
        assert raised.value.value == sources[-1]


TEXT = st.text(
    st.one_of(st.sampled_from("\",;\t'#{[a "), st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])), max_size=12
).filter(lambda text: text not in NO_VALUE)
ANY_CAPTION = st.one_of(TEXT, st.sampled_from([None, math.nan, "", " "]))
SAMPLES = st.lists(st.lists(ANY_CAPTION, max_size=3), min_size=1, max_size=4)


def expected(samples: Sequence[Sequence[object]]) -> dict[str, tuple[str, ...]]:
    """What every format must give."""
    texts = {f"{n}.jpg": [t for t in captions if isinstance(t, str)] for n, captions in enumerate(samples)}
    return {name: tuple(text.strip() for text in found if text.strip()) for name, found in texts.items()}


def as_rows(folder: Path, samples: Sequence[Sequence[object]], name: str, separator: str) -> Path:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["image", "caption"])
        for number, captions in enumerate(samples):
            writer.writerows([f"{number}.jpg", text] for text in captions or [""])
    return folder / name


def as_json_lines(folder: Path, samples: Sequence[Sequence[object]]) -> Path:
    rows = [json.dumps({"image": f"{n}.jpg", "caption": captions}) for n, captions in enumerate(samples)]
    (folder / "x.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder / "x.jsonl"


def as_parquet(folder: Path, samples: Sequence[Sequence[object]], kind: pa.DataType) -> Path:
    texts = [[text if isinstance(text, str) else None for text in captions] for captions in samples]
    encoded = [[t.encode() if t is not None and pa.types.is_binary(kind) else t for t in row] for row in texts]
    columns = {"path": [f"{n}.jpg" for n in range(len(samples))], "caption": pa.array(encoded, pa.list_(kind))}
    pq.write_table(pa.table(columns), folder / f"{kind}.parquet")
    return folder / f"{kind}.parquet"


def as_karpathy(folder: Path, samples: Sequence[Sequence[object]]) -> Path:
    entries = [
        {"filename": f"{n}.jpg", "split": "train", "sentences": [{"raw": text} for text in captions]}
        for n, captions in enumerate(samples)
    ]
    (folder / "d.json").write_text(json.dumps({"images": entries}), encoding="utf-8")
    return folder / "d.json"


def as_coco(folder: Path, samples: Sequence[Sequence[object]]) -> Path:
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(len(samples))]
    texts = [(n, text) for n, captions in enumerate(samples) for text in captions if isinstance(text, str)]
    annotations = [{"image_id": n, "caption": text} for n, text in reversed(texts)]
    annotations.reverse()
    (folder / "c.json").write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")
    return folder / "c.json"


def as_lines(folder: Path, samples: Sequence[Sequence[object]], name: str, form: str) -> Path:
    """`form` has places for an image's name, a caption's number and the caption."""
    lines = [
        form.format(f"{n}.jpg", place, text if isinstance(text, str) else "")
        for n, captions in enumerate(samples)
        for place, text in enumerate(captions or [""])
    ]
    (folder / name).write_text("\n".join(["", *lines]), encoding="utf-8")
    return folder / name


def as_chinese_clip(folder: Path, samples: Sequence[Sequence[object]]) -> Path:
    texts = [(n, text) for n, captions in enumerate(samples) for text in captions if isinstance(text, str)]
    rows = [json.dumps({"text": text, "image_ids": [f"{n}.jpg"]}) for n, text in texts if text.strip()]
    (folder / "x_texts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    pictures = [f"{n}.jpg\t{b64encode(jpeg(n)).decode()}\n" for n in range(len(samples))]
    (folder / "x_imgs.tsv").write_text("".join(pictures), encoding="utf-8")
    return folder / "x_imgs.tsv"


def beside(samples: Sequence[Sequence[object]]) -> dict[str, bytes]:
    """Members or files: an image and a text file each, unless there is no text."""
    found: dict[str, bytes] = {}
    for number, captions in enumerate(samples):
        found[f"{number}.jpg"] = jpeg(number)
        if captions:
            found[f"{number}.txt"] = "\n".join(text if isinstance(text, str) else "" for text in captions).encode()
    return found


def as_folder(folder: Path, samples: Sequence[Sequence[object]]) -> Path:
    inner = folder / "files"
    inner.mkdir()
    for name, content in beside(samples).items():
        (inner / name).write_bytes(content)
    return inner


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SAMPLES)
def test_the_same_samples_in_every_format_are_the_same_pairs(samples: list[list[object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(len(samples)):
            (folder / f"{number}.jpg").write_bytes(jpeg(number))
        sources = [
            as_rows(folder, samples, "x.csv", ","),
            as_rows(folder, samples, "y.csv", ";"),
            as_rows(folder, samples, "x.tsv", "\t"),
            as_json_lines(folder, samples),
            as_parquet(folder, samples, pa.string()),
            as_parquet(folder, samples, pa.binary()),
            as_karpathy(folder, samples),
            as_coco(folder, samples),
            as_lines(folder, samples, "x.token", "{}#{}\t{}"),
            as_lines(folder, samples, "comma.txt", "{0},{2}"),
            as_lines(folder, samples, "tab.txt", "{0}\t{2}"),
            as_chinese_clip(folder, samples),
            as_folder(folder, samples),
            write_tar(folder / "x.tar", beside(samples)),
        ]
        for source in sources:
            reader, found = SampleReader(), {}
            for item in list_samples([source], Columns()):
                assert isinstance(item, Listed), (source, item)
                sample = reader.read(item)
                assert isinstance(sample, Sample), (source, sample)
                found[sample.name] = sample.captions
            assert found == expected(samples), source


def examples(dataset: Dataset) -> dict[str, Example]:
    return {item.key: item for item in dataset if isinstance(item, Example)}


def test_captions_by_language_and_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    rows = [{"image": "a.jpg", "en": ["one", "two"], "zh": "一"}, {"image": "gone.jpg", "en": "x"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    columns = Columns(captions={"en": "en", "zh": "zh"})
    dataset = open_dataset(tmp_path / "x.jsonl", columns=columns)
    assert (len(dataset), [item.path for item in dataset.missing], dataset.languages) == (1, ["gone.jpg"], ("en", "zh"))
    assert examples(dataset)["a.jpg"] == Example("a.jpg", "a.jpg", jpeg(1), {"en": ("one", "two"), "zh": ("一",)}, ())
    chinese = open_dataset(tmp_path / "x.jsonl", columns=columns, language="zh")
    assert [item.captions for item in examples(chinese).values()] == [{"zh": ("一",)}]
    with pytest.raises(InvalidInput) as raised:
        open_dataset(tmp_path / "x.jsonl", columns=columns, language="de")
    assert raised.value.value == "de"


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("dog/1.jpg", "cat/2.jpg", "cat/deep/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert {key: item.labels for key, item in examples(dataset).items()} == {
        "dog/1": (1,),
        "cat/2": (0,),
        "cat/deep/3": (0,),
    }


def test_webdataset_of_clip_benchmark(tmp_path: Path) -> None:
    for split, levels in (("train", (3, 4)), ("test", (1, 2))):
        (tmp_path / split).mkdir()
        (tmp_path / split / "nshards.txt").write_text("2\n")
        for shard, level in enumerate(levels):
            write_tar(tmp_path / split / f"{shard}.tar", {"s0.jpg": jpeg(level), "s0.cls": b"%d" % (level % 2)})
    (tmp_path / "classnames.txt").write_text("a tabby cat\nhot dog\n", encoding="utf-8")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n{c}\n", encoding="utf-8")
    for place, split, levels in (("", None, (1, 2)), ("test", None, (1, 2)), ("", "train", (3, 4))):
        dataset = open_dataset(tmp_path / place, split=split)
        assert (dataset.classes, dataset.templates) == (("a tabby cat", "hot dog"), ("a photo of _.", "_"))
        found = [(item.image, item.labels) for item in examples(dataset).values()]
        assert found == [(jpeg(level), (level % 2,)) for level in levels]
    with pytest.raises(InvalidInput) as raised:
        open_dataset(tmp_path, split="val")
    assert raised.value.value == "val"


def test_webdataset_of_captions(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {"a.jpg": jpeg(1), "a.txt": b"one\ntwo", "b.jpg": jpeg(2)})
    dataset = open_dataset(tmp_path)
    assert [item.captions if isinstance(item, Example) else item.path for item in dataset] == [
        {"": ("one", "two")},
        "0.tar/b",
    ]


def test_a_folder_for_each_class_in_each_split(tmp_path: Path) -> None:
    for name in ("train/dog/1.jpg", "train/train/2.jpg", "val/dog/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    dataset = open_dataset(tmp_path, split="train")
    assert {key: item.labels for key, item in examples(dataset).items()} == {"train/dog/1": (0,), "train/train/2": (1,)}
    assert {item.split for item in examples(open_dataset(tmp_path)).values()} == {"train", "val"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_splits(tmp_path: Path, kind: str) -> None:
    rows = {"image": ["a.jpg", "a.jpg", "a.jpg"], "text": ["x", "y", "z"], "split": ["train", "validation", "test"]}
    rows["id"] = ["1", "2", "3"]
    (tmp_path / "a.jpg").write_bytes(jpeg())
    path = tmp_path / f"metadata.{kind}"
    if kind == "csv":
        lines = zip(*rows.values(), strict=True)
        path.write_text("\n".join(",".join(line) for line in (rows, *lines)))
    elif kind == "jsonl":
        lines = zip(*rows.values(), strict=True)
        path.write_text("\n".join(json.dumps(dict(zip(rows, line, strict=True))) for line in lines))
    else:
        pq.write_table(pa.table(rows), path)
    for source in (path, tmp_path):
        for split, text in (("train", "x"), ("val", "y"), (None, "z")):
            found = examples(open_dataset(source, split=split)).values()
            assert [item.captions for item in found] == [{"": (text,)}]


def test_the_split_of_an_annotation_file(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    entries = [{"filename": "a.jpg", "split": split, "sentences": [{"raw": split}]} for split in ("train", "test")]
    (tmp_path / "d.json").write_text(json.dumps({"images": entries}))
    for split, text in ((None, "test"), ("train", "train")):
        (found,) = examples(open_dataset(tmp_path / "d.json", split=split)).values()
        assert found.captions == {"": (text,)}


def test_images_alone_are_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    with pytest.raises(InvalidInput) as raised:
        open_dataset(tmp_path)
    assert raised.value.value == tmp_path
