import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

import colours
from tuwen.data.metadata import METADATA
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ImageIngest, ingest
from tuwen.ingest.sync import sync
from tuwen.ingest.writer import WRITE, IngestReport
from tuwen.runtime.pipeline import BATCH
from tuwen.types import Row

COUNT = 3 * len(colours.COLOURS)


class Counting:
    """The encoder, and how many pictures it has encoded."""

    def __init__(self, encoder) -> None:
        self._encoder = encoder
        self.encoded = 0

    def encode_pixels(self, pixels):
        self.encoded += len(pixels)
        return self._encoder.encode_pixels(pixels)

    def __getattr__(self, name: str):
        return getattr(self._encoder, name)


@pytest.fixture
def counting(encoder) -> Counting:
    return Counting(encoder)


@pytest.fixture
def index(tmp_path: Path, encoder, photos: Path):
    with VectorIndex.create(tmp_path / "photos.tuwen", encoder=encoder, root=photos) as index:
        yield index


def reports(index, encoder, *paths: Path) -> list[IngestReport]:
    return list(ingest(paths or [index.root], encoder, index))


def run(index, encoder, *paths: Path) -> IngestReport:
    return replace(reports(index, encoder, *paths)[-1], seconds=0.0)


def rows(index) -> dict[str, tuple[str, np.ndarray]]:
    """Key -> content and vector, of everything."""
    contents = {str(row.payload["path"]): str(row.payload["content"]) for row in index.list()}
    vectors = index.vectors_of(sorted(set(contents.values())))
    return {key: (content, vectors[content]) for key, content in contents.items()}


def test_every_picture_becomes_a_row(index, encoder, photos: Path) -> None:
    report = run(index, encoder)
    assert report == IngestReport(rows=COUNT, indexed=COUNT, skipped=1)
    file = photos / "red" / "red-1.jpg"
    stored = index.payloads(["red/red-1.jpg"])["red/red-1.jpg"]
    facts = {
        name: stored[name] for name in ("path", "folder", "name", "width", "height", "format", "bytes", "modified")
    }
    assert facts == {
        "path": "red/red-1.jpg",
        "folder": "red",
        "name": "red-1.jpg",
        "width": 48,
        "height": 40,
        "format": "JPEG",
        "bytes": file.stat().st_size,
        "modified": file.stat().st_mtime,
    }
    for key, (_, vector) in rows(index).items():
        np.testing.assert_allclose(vector, encoder.encode_images([photos / key])[0], atol=1e-6)


def test_an_unchanged_file_is_not_even_opened(index, counting, photos: Path) -> None:
    run(index, counting)
    file = photos / "red" / "red-0.jpg"
    state = file.stat()
    file.write_bytes(b"x" * state.st_size)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run(index, counting) == IngestReport(rows=COUNT, unchanged=COUNT, skipped=1)
    assert counting.encoded == COUNT


def test_a_touched_file_is_read_but_not_encoded(index, counting, photos: Path) -> None:
    run(index, counting)
    file = photos / "red" / "red-0.jpg"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert run(index, counting) == IngestReport(rows=COUNT, unchanged=COUNT, skipped=1)
    assert counting.encoded == COUNT
    assert index.payloads(["red/red-0.jpg"])["red/red-0.jpg"]["modified"] == 1_000_000_000
    file.write_bytes(b"x" * file.stat().st_size)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert run(index, counting).unchanged == COUNT, "its new time was not stored"


def test_a_row_says_when_an_image_was_taken_and_with_what(index, counting, photos: Path) -> None:
    exif = Image.Exif()
    exif.update({Base.Make: "Canon", Base.Model: "EOS"})
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: "2020:01:02 03:04:05", Base.OffsetTimeOriginal: "+00:00"})
    colours.picture("red", seed=5).save(photos / "dated.jpg", exif=exif.tobytes())
    run(index, counting)
    dated, undated = (index.payloads([key])[key] for key in ("dated.jpg", "red/red-0.jpg"))
    assert (dated["taken"], dated["taken_from"], dated["camera"]) == (1577934245.0, "exif", "Canon EOS")
    assert (undated["taken"], undated["taken_from"]) == (undated["modified"], "file")
    assert index.keys('taken == 2020-01-02 and camera contains "Canon"') == ["dated.jpg"]
    os.utime(photos / "red" / "red-0.jpg", (1_000_000_000, 1_000_000_000))
    os.utime(photos / "dated.jpg", (1_000_000_000, 1_000_000_000))
    (photos / "dated.jpg").rename(photos / "moved.jpg")
    run(index, counting)
    assert index.payloads(["red/red-0.jpg"])["red/red-0.jpg"]["taken"] == 1_000_000_000
    assert index.payloads(["moved.jpg"])["moved.jpg"]["taken"] == 1577934245.0
    assert counting.encoded == COUNT + 1


def test_facts_are_filled_in_without_encoding(index, counting, photos: Path) -> None:
    run(index, counting)
    plain = {row.payload["path"]: row.payload for row in index.list()}
    bare = {key: {name: it for name, it in row.items() if name not in METADATA} for key, row in plain.items()}
    index.update_payloads({key: {**row, "note": "kept", "camera": "old"} for key, row in bare.items()})
    vectors = rows(index)
    list(sync(photos, ImageIngest(counting, index)))
    assert index.count('camera == "old"') == COUNT
    *_, report = sync(photos, ImageIngest(counting, index, refresh_facts=True))
    assert (report.unchanged, report.replaced, report.rejected) == (COUNT, 0, ())
    assert {row.payload["path"]: row.payload for row in index.list()} == {
        key: {**row, "note": "kept"} for key, row in plain.items()
    }
    assert counting.encoded == COUNT
    for key, (_, vector) in rows(index).items():
        np.testing.assert_array_equal(vector, vectors[key][1])


def test_a_changed_file_is_replaced(index, counting, photos: Path) -> None:
    run(index, counting)
    file = photos / "red" / "red-0.jpg"
    colours.picture("blue", seed=99).save(file)
    assert run(index, counting) == IngestReport(rows=COUNT, replaced=1, unchanged=COUNT - 1, skipped=1)
    assert counting.encoded == COUNT + 1
    np.testing.assert_allclose(rows(index)["red/red-0.jpg"][1], counting.encode_images([file])[0], atol=1e-6)


def test_a_vanished_file_keeps_its_row(index, encoder, photos: Path) -> None:
    run(index, encoder)
    (photos / "red" / "red-0.jpg").unlink()
    assert run(index, encoder) == IngestReport(rows=COUNT, unchanged=COUNT - 1, skipped=1)


def test_a_changed_file_that_cannot_be_read_keeps_its_row(index, encoder, photos: Path) -> None:
    run(index, encoder)
    (photos / "red" / "red-0.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    report = run(index, encoder)
    assert (report.rows, report.unchanged, len(report.rejected)) == (COUNT, COUNT - 1, 1)


def test_the_same_picture_is_encoded_once_wherever_it_is(index, counting, photos: Path) -> None:
    for i in range(2 * BATCH):
        shutil.copy(photos / "red" / "red-0.jpg", photos / f"copy-{i:02}.jpg")
    report = run(index, counting)
    assert (report.indexed, counting.encoded) == (COUNT + 2 * BATCH, COUNT)
    shutil.copy(photos / "blue" / "blue-0.jpg", photos / "later.jpg")
    report = run(index, counting)
    assert (report.indexed, counting.encoded) == (1, COUNT)
    found = rows(index)
    np.testing.assert_array_equal(found["copy-00.jpg"][1], found["red/red-0.jpg"][1])
    np.testing.assert_array_equal(found["later.jpg"][1], found["blue/blue-0.jpg"][1])
    stored = index.payloads(["later.jpg"])["later.jpg"]
    assert (stored["width"], stored["height"], stored["format"], stored["folder"]) == (48, 40, "JPEG", "")


def test_a_row_of_the_same_content_without_facts_lends_its_vector(index, counting, photos: Path) -> None:
    content = hashlib.sha256((photos / "red" / "red-0.jpg").read_bytes()).hexdigest()
    vector = np.eye(1, counting.dim, dtype=np.float32)[0]
    index.upsert([Row("from/elsewhere", vector, {"content": content})])
    assert (run(index, counting).indexed, counting.encoded) == (COUNT, COUNT - 1)
    np.testing.assert_array_equal(rows(index)["red/red-0.jpg"][1], vector)
    assert index.payloads(["red/red-0.jpg"])["red/red-0.jpg"]["width"] == 48


def test_a_moved_file_keeps_its_vector(index, counting, photos: Path) -> None:
    run(index, counting)
    (photos / "red").rename(photos / "rot")
    assert run(index, counting).indexed == 3
    assert counting.encoded == COUNT


def test_files_that_cannot_be_read_stop_nothing(index, encoder, photos: Path) -> None:
    (photos / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (photos / "empty.png").touch()
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    (photos / "truncated.jpg").write_bytes((photos / "red" / "red-0.jpg").read_bytes()[:400])
    report = run(index, encoder)
    assert [item.path for item in report.rejected] == ["a.jpg", "gone.jpg", "truncated.jpg"]
    assert all(item.reason for item in report.rejected)
    assert report.indexed == COUNT
    assert report.seen == COUNT + 1 + 4


def test_only_unreadable_files_are_a_report_too(index, encoder, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"x")
    report = run(index, encoder, tmp_path / "x.jpg")
    assert (report.rows, [item.path for item in report.rejected]) == (0, [str(tmp_path / "x.jpg")])


def test_files_outside_the_root_have_their_absolute_path(index, encoder, photos: Path, tmp_path: Path) -> None:
    more = colours.make_photos(tmp_path / "更多", count=1)
    report = run(index, encoder, more, photos / "red" / "red-0.jpg")
    assert report.indexed == len(colours.COLOURS) + 1
    keys = set(rows(index))
    assert "red/red-0.jpg" in keys
    assert str(more / "red" / "red-0.jpg") in keys


def test_the_index_itself_is_not_searched_for_pictures(encoder, photos: Path) -> None:
    with VectorIndex.create(photos / "own.tuwen", encoder=encoder, root=photos) as index:
        assert run(index, encoder).skipped == 1
        assert run(index, encoder) == IngestReport(rows=COUNT, unchanged=COUNT, skipped=1)


def test_copies_far_apart_are_encoded_once_too(index, counting, photos: Path) -> None:
    """One stands at the end of a write, its copy among the files that were read before that."""
    many = WRITE + 4 * BATCH
    for i in range(many):
        copy_of = i - BATCH // 2 if i > BATCH and i % WRITE == BATCH // 4 else i
        colours.picture("green", seed=copy_of).save(photos / f"{i:04}.png")
    different = len({(photos / f"{i:04}.png").read_bytes() for i in range(many)})
    assert run(index, counting).indexed == COUNT + many
    assert counting.encoded == COUNT + different


def test_threads_change_nothing(encoder, photos: Path, tmp_path: Path, monkeypatch) -> None:
    colours.make_photos(photos, count=30)
    (photos / "green" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    seen = []
    for threads in (1, 4):
        monkeypatch.setattr(encoder, "threads", threads)
        with VectorIndex.create(tmp_path / f"{threads}.tuwen", encoder=encoder, root=photos) as index:
            report = run(index, encoder)
            seen.append((report, rows(index)))
    assert seen[0][0] == seen[1][0]
    assert list(seen[0][1]) == list(seen[1][1])
    for key, (content, vector) in seen[0][1].items():
        assert content == seen[1][1][key][0]
        np.testing.assert_array_equal(vector, seen[1][1][key][1])


def test_what_a_report_counts_is_in_the_index_even_if_nobody_goes_on(encoder, photos: Path, tmp_path: Path) -> None:
    colours.make_photos(photos, count=100)
    folder = tmp_path / "stopped.tuwen"
    with VectorIndex.create(folder, encoder=encoder, root=photos) as index:
        running = ingest([photos], encoder, index)
        first = next(running)
        assert first.rows == first.indexed >= BATCH
        running.close()
    with VectorIndex.open(folder, encoder=encoder) as index:
        assert index.info().rows == first.rows < 100 * len(colours.COLOURS)
        again = reports(index, encoder)
        assert again[-1].unchanged == first.rows
        assert [report.rows for report in again] == sorted(report.rows for report in again)
        assert index.info().rows == again[-1].rows == 100 * len(colours.COLOURS)
