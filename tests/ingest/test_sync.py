import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import colours
from ingest.test_ingest import COUNT, Counting, rows
from tuwen.data.samples import Columns
from tuwen.errors import InvalidInput
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ImageIngest, ingest
from tuwen.ingest.sync import sync
from tuwen.ingest.texts import ingest_texts
from tuwen.ingest.writer import IngestReport


@pytest.fixture
def counting(encoder) -> Counting:
    return Counting(encoder)


@pytest.fixture
def index(tmp_path: Path, encoder, photos: Path):
    with VectorIndex.create(tmp_path / "photos.tuwen", encoder=encoder, root=photos) as index:
        yield index


def run(index, encoder, folder: Path | None = None, **options) -> IngestReport:
    pictures = ImageIngest(encoder, index)
    return replace(list(sync(folder or index.root, pictures, **options))[-1], seconds=0.0)


def test_new_changed_moved_and_deleted(index, counting, photos: Path) -> None:
    assert run(index, counting) == IngestReport(rows=COUNT, indexed=COUNT, skipped=1)
    before = rows(index)
    colours.picture("blue", seed=99).save(photos / "new.jpg")
    colours.picture("red", seed=98).save(photos / "blue" / "blue-0.jpg")
    (photos / "green").rename(photos / "grün")
    shutil.rmtree(photos / "yellow")
    report = run(index, counting)
    assert report == IngestReport(rows=COUNT - 2, indexed=4, replaced=1, removed=6, unchanged=8, skipped=1)
    assert counting.encoded == COUNT + 2, "a moved file keeps its vector"
    found = rows(index)
    assert sorted(found) == sorted(str(p.relative_to(photos)) for p in photos.rglob("*.jpg"))
    for i in range(3):
        np.testing.assert_array_equal(found[f"grün/green-{i}.jpg"][1], before[f"green/green-{i}.jpg"][1])
    assert run(index, counting) == IngestReport(rows=COUNT - 2, unchanged=COUNT - 2, skipped=1)


def test_only_rows_below_the_folder_go(index, encoder, photos: Path, tmp_path: Path) -> None:
    outside = colours.make_photos(tmp_path / "outside", count=1)
    (photos / "red2").mkdir()
    colours.picture("red", seed=9).save(photos / "red2" / "a.jpg")
    texts = photos / "red" / "texts.txt"
    texts.write_text("red\n", encoding="utf-8")
    list(ingest_texts([texts], encoder, index, Columns()))
    list(ingest([photos, outside], encoder, index))
    (outside / "red" / "red-0.jpg").unlink()
    (photos / "red2" / "a.jpg").unlink()
    (photos / "red" / "red-0.jpg").unlink()
    texts.unlink()
    assert run(index, encoder, photos / "red").removed == 1
    left = {str(row.payload["path"]) for row in index.list()}
    assert {"red/texts.txt/1", "red2/a.jpg", f"{outside}/red/red-0.jpg"} <= left
    assert run(index, encoder, photos).removed == 1
    assert run(index, encoder, outside).removed == 1


@pytest.mark.parametrize("name", ["a%41b", "%C3", "ü b", os.fsdecode(b"caf\xe9")])
def test_folders_of_all_names(index, encoder, photos: Path, name: str) -> None:
    folder = photos / name
    shutil.copytree(photos / "red", folder)
    run(index, encoder)
    (folder / "red-0.jpg").unlink()
    assert run(index, encoder, folder).removed == 1
    (folder / "red-1.jpg").unlink()
    assert run(index, encoder, only=[folder / "red-1.jpg"]).removed == 1
    shutil.rmtree(folder)
    assert run(index, encoder, only=[folder]).removed == 1
    assert index.info().rows == COUNT


def test_a_folder_that_is_away_empties_nothing(index, encoder, photos: Path, tmp_path: Path) -> None:
    run(index, encoder)
    photos.rename(tmp_path / "away")
    with pytest.raises(InvalidInput, match=r"cannot be read: No such file or directory\. Is it mounted\?"):
        run(index, encoder, photos)
    photos.mkdir()
    (photos / "lost+found").mkdir()
    with pytest.raises(InvalidInput, match=r"has no picture, and the index has 15 of it: is it mounted\?"):
        run(index, encoder, photos)
    assert index.info().rows == COUNT
    assert run(index, encoder, photos, allow_empty=True) == IngestReport(rows=0, removed=COUNT, skipped=1)
    photos.rmdir() if not any(photos.iterdir()) else shutil.rmtree(photos)
    photos.write_text("a file")
    with pytest.raises(InvalidInput, match="it is no folder"):
        run(index, encoder, photos, allow_empty=True)


def test_a_folder_that_is_exchanged_meanwhile_empties_nothing(index, encoder, photos: Path, tmp_path: Path) -> None:
    run(index, encoder)
    colours.picture("red", seed=7).save(photos / "white" / "new.jpg")
    pictures = ImageIngest(encoder, index)
    running = sync(photos, pictures)
    next(running)
    photos.rename(tmp_path / "away")
    photos.mkdir()
    with pytest.raises(InvalidInput, match="was another folder at the end"):
        list(running)
    assert index.info().rows == COUNT + 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_what_cannot_be_looked_at_keeps_its_rows(index, encoder, photos: Path) -> None:
    run(index, encoder)
    (photos / "red").chmod(0)
    (photos / "blue" / "blue-0.jpg").unlink()
    report = run(index, encoder)
    (photos / "red").chmod(0o755)
    assert (report.removed, report.rows, [item.path for item in report.rejected]) == (1, COUNT - 1, ["red"])
    photos.chmod(0)
    with pytest.raises(InvalidInput, match="cannot be read"):
        run(index, encoder, allow_empty=True)
    photos.chmod(0o755)


class Unreadable:
    """A folder that cannot be listed, for who may do everything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, folder: Path) -> None:
        listed = Path.iterdir

        def iterdir(path: Path):
            if path == folder:
                raise OSError(5, "Input/output error")
            return listed(path)

        self._monkeypatch.setattr(Path, "iterdir", iterdir)


def test_a_disk_that_fails_keeps_its_rows(index, encoder, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(index, encoder)
    (photos / "blue" / "blue-0.jpg").unlink()
    Unreadable(monkeypatch)(photos / "red")
    report = run(index, encoder)
    assert (report.removed, report.rows, [item.path for item in report.rejected]) == (1, COUNT - 1, ["red"])
    Unreadable(monkeypatch)(photos)
    with pytest.raises(InvalidInput, match="cannot be read: the folder cannot be opened: Input/output error"):
        run(index, encoder, allow_empty=True)
    assert index.info().rows == COUNT - 1


def test_a_picture_that_is_broken_now_keeps_its_row(index, encoder, photos: Path) -> None:
    run(index, encoder)
    (photos / "red" / "red-0.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    report = run(index, encoder)
    assert (report.rows, report.removed, [item.path for item in report.rejected]) == (COUNT, 0, ["red/red-0.jpg"])


def test_only_some_paths(index, counting, photos: Path) -> None:
    run(index, counting)
    colours.picture("blue", seed=99).save(photos / "new.jpg")
    (photos / "red" / "red-0.jpg").unlink()
    shutil.rmtree(photos / "blue")
    (photos / "green" / "green-0.jpg").rename(photos / "moved.jpg")
    some = [photos / "new.jpg", photos / "red" / "red-0.jpg", photos / "never.jpg", photos / "notes.txt"]
    assert run(index, counting, only=some) == IngestReport(rows=COUNT, indexed=1, removed=1, skipped=1)
    assert run(index, counting, only=[photos / "blue"]) == IngestReport(rows=COUNT - 3, removed=3)
    moved = [photos / "green" / "green-0.jpg", photos / "moved.jpg"]
    assert run(index, counting, only=moved) == IngestReport(rows=COUNT - 3, indexed=1, removed=1)
    assert counting.encoded == COUNT + 1
    assert run(index, counting) == IngestReport(rows=COUNT - 3, unchanged=COUNT - 3, skipped=1)
