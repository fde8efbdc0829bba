"""Annotation files as benchmarks publish them: a few real-shaped lines of each, read into images with captions."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from samples_of import jpeg, read_all
from tuwen.data.annotations import annotations_in, is_annotations, list_annotations, split_in_name, splits_of
from tuwen.data.datasets import Dataset, Example, open_dataset
from tuwen.data.samples import Sample
from tuwen.errors import InvalidInput
from tuwen.types import Rejected


def entry(name: str, split: str, *texts: str, **more: str) -> dict[str, object]:
    return {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts], **more}


def write(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps({"images": entries, "dataset": "coco"}), encoding="utf-8")
    return path


def write_lines(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for level, name in enumerate(names):
        (folder / name).write_bytes(jpeg(level))
    return folder


def captions(dataset: Dataset) -> dict[str, Mapping[str, Sequence[str]]]:
    return {item.key: item.captions for item in dataset if isinstance(item, Example)}


def missing(dataset: Dataset) -> list[str]:
    return [item.path for item in dataset.missing]


def test_karpathy_has_splits_and_all_captions(tmp_path: Path) -> None:
    write_images(tmp_path / "val2014", "a.jpg")
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    entries = (
        entry("a.jpg", "restval", "one", "two", filepath="val2014"),
        entry("b.jpg", "train", "三"),
        entry("c.jpg", "test", "four"),
    )
    file = write(tmp_path / "dataset.json", *entries)
    first, second = read_all(list_annotations(file, ("train",)))
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert (first.key, first.captions, first.image, first.split) == ("val2014/a.jpg", ("one", "two"), jpeg(0), "train")
    assert (second.key, second.captions, second.image) == ("b.jpg", ("三",), jpeg(2))
    assert splits_of(file) == ["test", "train"]
    (only,) = read_all(list_annotations(file, ("restval",)))
    assert isinstance(only, Sample)
    (other,) = read_all(list_annotations(file, ("test",), tmp_path / "elsewhere"))
    assert isinstance(other, Rejected)


def test_entries_that_cannot_be_used_are_rejected(tmp_path: Path) -> None:
    twice = entry("a.jpg", "train", "x")
    file = write(tmp_path / "d.json", twice, {"split": "train", "filename": "b.jpg"}, 7, twice)
    found = [item.path for item in list_annotations(file, ("train",)) if isinstance(item, Rejected)]
    assert found == [f"{file}:{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("content", ["{", "[1]", '{"images": []}'])
def test_files_that_are_not_annotations(tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content)
    for name in ("d.json", "none.json"):
        with pytest.raises(InvalidInput) as raised:
            list(list_annotations(tmp_path / name, ("train",)))
        assert raised.value.where == tmp_path / name


def test_coco_captions_belong_to_images_by_id(tmp_path: Path) -> None:
    write_images(tmp_path / "val2017", "000000397133.jpg", "000000037777.jpg")
    document = {
        "info": {"description": "COCO 2017 Dataset"},
        "images": [
            {"license": 4, "file_name": "000000397133.jpg", "height": 427, "width": 640, "id": 397133},
            {"license": 1, "file_name": "000000037777.jpg", "height": 230, "width": 352, "id": 37777},
            {"license": 1, "file_name": "000000000001.jpg", "height": 230, "width": 352, "id": 1},
        ],
        "annotations": [
            {"image_id": 37777, "id": 38, "caption": 'A kitchen, with "stuff".'},
            {"image_id": 397133, "id": 41, "caption": "A man is in a kitchen making pizzas."},
            {"image_id": 37777, "id": 44, "caption": "The dining table near the kitchen has a bowl of fruit on it. "},
            {"image_id": 1, "id": 45, "caption": "Gone."},
            {"image_id": 2, "id": 46, "caption": "Of no image."},
        ],
    }
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "captions_val2017.json"
    file.write_text(json.dumps(document))
    for place in (file, tmp_path):
        dataset = open_dataset(place)
        assert captions(dataset) == {
            "000000397133.jpg": {"": ("A man is in a kitchen making pizzas.",)},
            "000000037777.jpg": {
                "": ('A kitchen, with "stuff".', "The dining table near the kitchen has a bowl of fruit on it.")
            },
        }
        assert missing(dataset) == [f"{file}:annotations:4", "000000000001.jpg"]
        assert {item.split for item in dataset if isinstance(item, Example)} == {"val"}
    with pytest.raises(InvalidInput) as raised:
        open_dataset(file, split="test")
    assert raised.value.value == "test"


def test_flickr_token_files(tmp_path: Path) -> None:
    write_images(tmp_path / "flickr30k-images", "1000092795.jpg", "10002456.jpg")
    write_lines(
        tmp_path / "results_20130124.token",
        "1000092795.jpg#0\tTwo young guys with shaggy hair look at their hands , while hanging out in the yard .",
        '1000092795.jpg#1\tTwo young , White males are "outside" near many bushes .',
        "10002456.jpg#0\tSeveral men in hard hats #2 are operating a giant pulley system .",
        "2258277193_586949ec62.jpg.1#0\tsome people",
        "10002456.jpg#1",
    )
    dataset = open_dataset(tmp_path)
    assert captions(dataset) == {
        "1000092795.jpg": {
            "": (
                "Two young guys with shaggy hair look at their hands , while hanging out in the yard .",
                'Two young , White males are "outside" near many bushes .',
            )
        },
        "10002456.jpg": {"": ("Several men in hard hats #2 are operating a giant pulley system .",)},
    }
    assert missing(dataset) == [f"{tmp_path / 'results_20130124.token'}:5", "2258277193_586949ec62.jpg.1"]


@pytest.mark.parametrize("name", ["captions.txt", "captions.csv"])
def test_commas_and_quotes_inside_captions(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "Images", "1007129816.jpg", "1009434119.jpg")
    write_lines(
        tmp_path / name,
        "image,caption",
        "1007129816.jpg,The man with pierced ears, is wearing glasses and an orange hat.",
        '1007129816.jpg,"A man with glasses, wearing a ""beer can"" crocheted hat."',
        '1007129816.jpg,"Beer" is written on the hat, "again".',
        '1009434119.jpg,A black and white dog, "Rex", is running.',
    )
    source = tmp_path if name == "captions.txt" else tmp_path / name
    assert captions(open_dataset(source, images=None if name == "captions.txt" else tmp_path / "Images")) == {
        "1007129816.jpg": {
            "": (
                "The man with pierced ears, is wearing glasses and an orange hat.",
                'A man with glasses, wearing a "beer can" crocheted hat.',
                '"Beer" is written on the hat, "again".',
            )
        },
        "1009434119.jpg": {"": ('A black and white dog, "Rex", is running.',)},
    }


def test_clip_benchmarks_files_of_a_split(tmp_path: Path) -> None:
    write_images(tmp_path, "1007129816.jpg", "2.jpg")
    for split, name in (("train", "2"), ("test", "1007129816")):
        write_lines(tmp_path / f"flickr30k_{split}_karpathy.txt", "image,caption", f"{name}.jpg,a, b")
        write_lines(tmp_path / f"flickr30k_{split}_zh.txt", "image,caption", f"{name}.jpg,一")
    assert captions(open_dataset(tmp_path)) == {"1007129816.jpg": {"": ("a, b",)}}
    assert captions(open_dataset(tmp_path, split="train")) == {"2.jpg": {"": ("a, b",)}}
    assert captions(open_dataset(tmp_path / "flickr30k_test_zh.txt")) == {"1007129816.jpg": {"zh": ("一",)}}


def test_flickr30k_cn(tmp_path: Path) -> None:
    images = write_images(tmp_path / "flickr30k-images", "1007129816.jpg", "1000268201_693b08cb0e.jpg")
    folder = tmp_path / "cn"
    tagged = "1007129816#zhm#0 这个:r 戴:v 耳环:n 的:ude 男人:n ，:wd 戴着:v 橙色:n T恤:n 。:wj"
    boson = write_lines(folder / "flickr30kzhmbosontest" / "TextData" / "seg.flickr30kzhmbosontest.caption.txt", tagged)
    machine = write_lines(
        folder / "flickr30kzhbbosontrain" / "TextData" / "seg.flickr30kzhbbosontrain.caption.txt",
        "1007129816#zhb#0 两个 年轻人  look at 手",
    )
    both = write_lines(tmp_path / "test.txt", "1007129816#zhm#0\t戴耳环的男人", "1007129816\t一个男人")
    eight = write_lines(
        tmp_path / "flickr8kzhb.caption.txt",
        "1000268201_693b08cb0e.jpg#zhb#0 穿着粉红色连衣裙的孩子爬上楼梯，进入一个入口。",
    )
    expected = {
        boson: {"1007129816": {"zh": ("这个戴耳环的男人，戴着橙色T恤。",)}},
        folder: {"1007129816": {"zh": ("这个戴耳环的男人，戴着橙色T恤。",)}},
        machine: {"1007129816": {"zh": ("两个年轻人look at手",)}},
        both: {"1007129816": {"zh": ("戴耳环的男人",), "": ("一个男人",)}},
        eight: {"1000268201_693b08cb0e.jpg": {"zh": ("穿着粉红色连衣裙的孩子爬上楼梯，进入一个入口。",)}},
    }
    for source, found in expected.items():
        assert captions(open_dataset(source, images=images)) == found


def test_coco_cn(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "train2014", "COCO_train2014_000000000101.jpg")
    write_images(tmp_path / "images" / "val2014", *(f"COCO_val2014_00000000010{n}.jpg" for n in (3, 4)))
    folder = tmp_path / "coco-cn-version1805v1.1"
    write_lines(folder / "coco-cn_train.txt", "COCO_train2014_000000000101")
    write_lines(folder / "coco-cn_val.txt", "COCO_train2014_000000000102")
    write_lines(folder / "coco-cn_test.txt", "COCO_val2014_000000000103", "COCO_val2014_000000000104")
    lines = (
        "COCO_train2014_000000000101#0\t一只猫坐在沙发上",
        "COCO_val2014_000000000103#0\t城市夜景",
        "COCO_val2014_000000000103#1\t夜晚的街道，很安静",
    )
    write_lines(folder / "imageid.human-written-caption.txt", *lines)
    write_lines(folder / "imageid.manually-translated-caption.txt", "COCO_val2014_000000000103#0\t夜景")
    dataset = open_dataset(folder, images=tmp_path / "images")
    assert captions(dataset) == {"COCO_val2014_000000000103": {"zh": ("城市夜景", "夜晚的街道，很安静")}}
    assert missing(dataset) == ["COCO_val2014_000000000104"]
    file = folder / "imageid.human-written-caption.txt"
    train = open_dataset(file, images=tmp_path / "images", split="train")
    assert list(captions(train)) == ["COCO_train2014_000000000101"]
    assert missing(open_dataset(file, images=tmp_path / "images", split="val")) == ["COCO_train2014_000000000102"]


@pytest.mark.parametrize("first", ["a dog runs", "one, two", "A dog. jpg#x\ty", "3 dogs"])
def test_plain_texts_are_no_annotations(tmp_path: Path, first: str) -> None:
    assert not is_annotations(write_lines(tmp_path / "x.txt", first, "1.jpg#0\tx"))


def test_chinese_clip(tmp_path: Path) -> None:
    for split, names in (("valid", ("7", "8", "9")), ("train", ("1",))):
        texts = [
            {"text_id": 8428, "text": "高级感托特包斜挎", "image_ids": [int(names[0]), 404]},
            {"text_id": 8429, "text": " 连衣裙 ", "image_ids": [int(name) for name in names[:2]]},
            {"text_id": 8430, "text": "没有图片", "image_ids": []},
        ]
        write_lines(tmp_path / f"{split}_texts.jsonl", *map(json.dumps, texts))
        encode = {"7": base64.urlsafe_b64encode, "8": lambda content: base64.b64encode(content).rstrip(b"=")}
        contents = [encode.get(name, base64.b64encode)(jpeg(int(name))).decode() for name in names]
        write_lines(tmp_path / f"{split}_imgs.tsv", *(f"{a}\t{b}" for a, b in zip(names, contents, strict=True)))
    with (tmp_path / "valid_imgs.tsv").open("a") as file:
        file.write("10\tno base64!\nno image\n")
    for source in (tmp_path / "valid_texts.jsonl", tmp_path / "valid_imgs.tsv"):
        dataset = open_dataset(source)
        assert captions(dataset) == {"7": {"": ("高级感托特包斜挎", "连衣裙")}, "8": {"": ("连衣裙",)}}
        assert [item.image for item in dataset if isinstance(item, Example)] == [jpeg(7), jpeg(8)]
        assert missing(dataset) == [
            f"{tmp_path / 'valid_texts.jsonl'}:3",
            *("9", "10", f"{tmp_path / 'valid_imgs.tsv'}:5", "404"),
        ]
    assert list(captions(open_dataset(tmp_path, split="train"))) == ["1"]
    assert {item.split for item in open_dataset(tmp_path, split="val") if isinstance(item, Example)} == {"val"}
    (tmp_path / "train_imgs.tsv").unlink()
    with pytest.raises(InvalidInput) as raised:
        open_dataset(tmp_path / "train_texts.jsonl")
    assert raised.value.value == tmp_path / "train_imgs.tsv"


def test_an_image_that_is_no_base64_is_rejected_when_it_is_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "x_texts.jsonl", json.dumps({"text": "狗", "image_ids": [1, 2]}))
    write_lines(tmp_path / "x_imgs.tsv", "1\t%%%%", f"2\t{base64.b64encode(jpeg()).decode()}")
    broken, good = open_dataset(tmp_path)
    assert isinstance(broken, Rejected)
    assert isinstance(good, Example)


def test_xtd10(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "COCO_train2014_000000061844.jpg", "COCO_train2014_000000061850.jpg")
    names = [f"COCO_train2014_00000006{number}.jpg" for number in (1844, 1849, 1850)]
    write_lines(tmp_path / "XTD10" / "test_image_names.txt", *names)
    write_lines(tmp_path / "XTD10" / "test_1kcaptions_es.txt", "Un hombre, una tabla", "dos", "tres\u2028cuatro")
    write_lines(tmp_path / "XTD10" / "test_1kcaptions_zh.txt", "一", "二", "")
    write_lines(tmp_path / "STAIR" / "test_1kcaptions_jp.txt", "一つ", "二つ", "三つ")
    write_lines(tmp_path / "MIC" / "test_1kcaptions_de.txt", "eins", "zwei")
    for source in (tmp_path, tmp_path / "XTD10" / "test_image_names.txt"):
        dataset = open_dataset(source)
        assert captions(dataset) == {
            names[0]: {"es": ("Un hombre, una tabla",), "zh": ("一",), "ja": ("一つ",)},
            names[2]: {"es": ("tres\u2028cuatro",), "ja": ("三つ",)},
        }
        assert missing(dataset) == [str(tmp_path / "MIC" / "test_1kcaptions_de.txt"), names[1]]
        assert set(dataset.languages) == {"es", "zh", "ja"}
    japanese = open_dataset(tmp_path / "STAIR" / "test_1kcaptions_jp.txt")
    assert captions(japanese) == {names[0]: {"ja": ("一つ",)}, names[2]: {"ja": ("三つ",)}}


def test_crossmodal_3600_gives_the_first_caption_and_says_so(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "0dec2ebf60ee4eb3.jpg", "1.jpg")
    record = {
        "image/key": "0dec2ebf60ee4eb3",
        "image/locale": "ar",
        "en": {"caption": ["A bus, on a road", "Bus"], "caption/tokenized": ["a bus", "bus"]},
        "zh": {"caption": ["公共汽车", "车"], "caption/tokenized/lowercase": ["公共 汽车"]},
        "quz": {"caption": []},
    }
    write_lines(tmp_path / "captions.jsonl", json.dumps(record), json.dumps({**record, "image/key": "gone"}))
    dataset = open_dataset(tmp_path)
    assert captions(dataset) == {"0dec2ebf60ee4eb3.jpg": {"en": ("A bus, on a road",), "zh": ("公共汽车",)}}
    assert missing(dataset) == ["gone.jpg"]
    assert len(dataset.notes) == 1
    assert captions(open_dataset(tmp_path, language="zh")) == {"0dec2ebf60ee4eb3.jpg": {"zh": ("公共汽车",)}}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("captions_val2017.json", "val"), ("valid_texts.jsonl", "val"), ("coco_test_karpathy.json", "test")),
        *(("seg.flickr30kzhbbosontrain.caption.txt", "train"), ("contest.json", ""), ("trained.json", "")),
    ],
)
def test_the_split_in_a_name(name: str, split: str) -> None:
    assert split_in_name(Path(name)) == split


def test_several_annotation_files_that_could_be_meant(tmp_path: Path) -> None:
    assert annotations_in(tmp_path) == []
    for name in ("dataset_coco.json", "dataset_flickr8k.json", "dataset_flickr30k.json"):
        write(tmp_path / name, entry("a.jpg", "test", "x"))
    assert annotations_in(tmp_path) == [tmp_path / "dataset_coco.json"]
    (tmp_path / "dataset_coco.json").unlink()
    with pytest.raises(InvalidInput) as raised:
        annotations_in(tmp_path)
    assert raised.value.value == tmp_path
