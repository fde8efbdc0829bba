import csv
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples_of import jpeg, write_tar
from tuwen.data.datasets import Dataset, Example, SampleReader, is_bulk, list_samples, open_dataset, root_of
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


def test_sources_that_cannot_be_used(folder: Path) -> None:
    for sources in ([folder / "no"], [folder / "one" / "cat.jpg"], [folder, folder / "one"]):
        with pytest.raises(InvalidInput) as raised:
            keys(*sources)
        assert raised.value.value == sources[-1]


# The same pairs in every format ---------------------------------------------------------------------------------------

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


# Datasets to evaluate on ----------------------------------------------------------------------------------------------


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
    write_tar(tmp_path / "0.tar", {"s0.webp": jpeg(1), "s0.cls": b"1", "s1.webp": jpeg(2), "s1.cls": b"0"})
    (tmp_path / "classnames.txt").write_text("a tabby cat\nhot dog\n", encoding="utf-8")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n{c}\n", encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert (dataset.classes, dataset.templates) == (("a tabby cat", "hot dog"), ("a photo of _.", "_"))
    assert [item.labels for item in examples(dataset).values()] == [(1,), (0,)]


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
