import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuwen.data.samples import Columns
from tuwen.index.index import VectorIndex
from tuwen.index.store import row_id
from tuwen.ingest.images import ingest
from tuwen.ingest.payloads import content_of
from tuwen.ingest.texts import ingest_texts
from tuwen.ingest.writer import IngestReport
from tuwen.types import Rejected


class Counting:
    """The encoder, and the texts that it has encoded."""

    def __init__(self, encoder) -> None:
        self._encoder = encoder
        self.encoded: list[str] = []

    def encode_texts(self, texts):
        self.encoded += texts
        return self._encoder.encode_texts(texts)

    def __getattr__(self, name: str):
        return getattr(self._encoder, name)


@pytest.fixture
def counting(encoder) -> Counting:
    return Counting(encoder)


@pytest.fixture
def index(tmp_path: Path, encoder):
    with VectorIndex.create(tmp_path / "texts.tuwen", encoder=encoder, root=tmp_path) as index:
        yield index


def run(index, encoder, *paths: Path) -> IngestReport:
    return replace(list(ingest_texts(paths, encoder, index, Columns()))[-1], seconds=0.0)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def texts(index) -> dict[str, str]:
    return {str(row.payload["path"]): str(row.payload["text"]) for row in index.list('type == "text"')}


def test_every_text_becomes_a_row(index, encoder, tmp_path: Path) -> None:
    file = write(tmp_path / "captions.txt", "red", "", "a photo of 蓝", "red")
    assert run(index, encoder, file) == IngestReport(rows=3, indexed=3, skipped=1)
    assert texts(index) == {"captions.txt/1": "red", "captions.txt/3": "a photo of 蓝", "captions.txt/4": "red"}
    assert index.payloads(["captions.txt/3"])["captions.txt/3"] == {
        "path": "captions.txt/3",
        "type": "text",
        "text": "a photo of 蓝",
        "folder": "captions.txt",
        "name": "3",
        "content": content_of("a photo of 蓝"),
        "modified": file.stat().st_mtime,
    }
    vectors = index.vectors([str(row_id(key)) for key in texts(index)])
    for key, text in texts(index).items():
        np.testing.assert_allclose(vectors[str(row_id(key))], encoder.encode_texts([text])[0], atol=1e-6)


def test_a_text_is_encoded_once_wherever_it_stands(index, counting, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", *["red", "blue"] * 300)
    assert run(index, counting, file).indexed == 600
    assert sorted(counting.encoded) == ["blue", "red"]
    os.utime(file, (1e9, 1e9))
    assert run(index, counting, file) == IngestReport(rows=600, unchanged=600)
    assert run(index, counting, write(tmp_path / "b.txt", "blue", "green")).indexed == 2
    assert counting.encoded[2:] == ["green"]


def test_a_file_that_is_read_again_has_the_rows_of_its_texts(index, counting, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "red", "blue", "green")
    other = write(tmp_path / "a.txt.more", "red")
    run(index, counting, file, other)
    write(file, "yellow", "red")
    assert run(index, counting, file) == IngestReport(rows=3, replaced=2, removed=1)
    assert texts(index) == {"a.txt/1": "yellow", "a.txt/2": "red", "a.txt.more/1": "red"}
    assert counting.encoded == ["red", "blue", "green", "yellow"]


def test_what_is_not_utf8_is_one_line_and_keeps_its_rows(index, encoder, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "red", "blue", "green")
    run(index, encoder, file)
    file.write_bytes(b"caf\xe9\nblue\n\xfe\xff\n")
    report = run(index, encoder, file)
    assert report.rejected == (Rejected("a.txt", "2 lines (the first: 1) are not UTF-8"),)
    assert texts(index) == {"a.txt/1": "red", "a.txt/2": "blue", "a.txt/3": "green"}
    file.write_bytes(b"red\ncaf\xe9\n")
    assert run(index, encoder, file).rejected == (Rejected("a.txt", "line 2 is not UTF-8"),)


def test_what_has_a_key_and_cannot_be_read_keeps_its_row(index, encoder, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "id,text", "one,red", "two,blue", "two,green", "two,yellow")
    run(index, encoder, file)
    file.write_bytes(file.read_bytes().replace(b"red", b"\xff").replace(b"green", b"\xff"))
    assert len(run(index, encoder, file).rejected) == 1
    assert texts(index) == {
        "a.csv/one": "red",
        "a.csv/two": "blue",
        "a.csv/two/2": "green",
        "a.csv/two/3": "yellow",
    }


def test_names_of_all_kinds(index, encoder, tmp_path: Path) -> None:
    for name in ('qu"ote\\.txt', "tab\there\x01.txt", "里 %41.txt", "a"):
        file = write(tmp_path / name, "red", "blue")
        assert run(index, encoder, file).indexed == 2
        write(file, "red")
        assert run(index, encoder, file).removed == 1
    assert len(texts(index)) == 4


def test_pictures_and_texts_in_one_index(index, encoder, photos: Path) -> None:
    (photos / "captions.jpg").write_text("red", encoding="utf-8")  # a text's content in what claims to be a picture
    file = write(photos / "captions.txt", "red", "blue")
    run(index, encoder, file)
    report = list(ingest([photos], encoder, index))[-1]
    assert (report.indexed, report.rows, len(report.rejected)) == (15, 17, 1)
    red = encoder.encode_texts(["red"])[0]
    picture = encoder.encode_images([photos / "red" / "red-0.jpg"])[0]
    for vector in (red, picture):
        best = index.search(vector, k=1, where='type == "text"')[0]
        assert best.payload["text"] == "red"
        assert index.search(vector, k=1, where='type == "image"')[0].payload["folder"] == "PHOTOS/red"
    kinds = [hit.payload["type"] for hit in index.search(red, k=17)]
    assert (kinds.count("text"), kinds.count("image")) == (2, 15)


def test_what_a_report_counts_is_in_the_index_even_if_nobody_goes_on(encoder, tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", *[f"red {'blue ' * (i % 9)}{i}" for i in range(1500)])
    folder = tmp_path / "stopped.tuwen"
    with VectorIndex.create(folder, encoder=encoder, root=tmp_path) as index:
        running = ingest_texts([file], encoder, index, Columns())
        first = next(running)
        assert 0 < first.rows == first.indexed < 1500
        running.close()
    with VectorIndex.open(folder, encoder=encoder) as index:
        assert index.info().rows == first.rows
        assert run(index, encoder, file) == IngestReport(rows=1500, indexed=1500 - first.rows, unchanged=first.rows)
