import shutil
from pathlib import Path

import pytest

import colours
from tuwen.data.selection import Selection
from tuwen.errors import IndexInvalid
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ImageIngest, ingest
from tuwen.ingest.selection import FILE, KeptSelection, keep_selection, read_selection
from tuwen.ingest.sync import sync


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = colours.make_photos(tmp_path, 1)
    for name in ("@eaDir", "red/.cache"):
        (folder / name).mkdir()
        shutil.copy(folder / "red" / "red-0.jpg", folder / name / "preview.jpg")
    shutil.copy(folder / "red" / "red-0.jpg", folder / "red" / "._red-0.jpg")
    return folder


@pytest.fixture
def index(encoder, photos: Path, tmp_path: Path):
    with VectorIndex.create(tmp_path / "index", encoder=encoder, root=photos) as opened:
        yield opened


def last(reports):
    *_, report = reports
    return report


def test_what_is_left_out_is_counted_and_kept(encoder, photos: Path, index: VectorIndex) -> None:
    report = last(ingest([photos], encoder, index))
    assert not report.rejected
    assert not [row for row in index.list() if "preview" in str(row.payload["path"])]
    kept = read_selection(index.folder)
    assert kept == KeptSelection(Selection(), {"system folder": 2, "system file": 1})


def test_an_index_remembers_its_selection(encoder, photos: Path, index: VectorIndex) -> None:
    chosen = Selection(exclude=("blue/",), default_excludes=False)
    last(ingest([photos], encoder, index, chosen))
    rows = list(index.keys())
    assert "@eaDir/preview.jpg" in rows
    assert not [key for key in rows if key.startswith("blue/")]
    last(sync(photos, ImageIngest(encoder, index)))
    assert list(index.keys()) == rows
    assert read_selection(index.folder).selection == chosen


def test_what_is_excluded_later_is_removed_by_sync(encoder, photos: Path, index: VectorIndex) -> None:
    before = last(ingest([photos], encoder, index)).rows
    report = last(sync(photos, ImageIngest(encoder, index, Selection(exclude=("blue/",)))))
    assert report.removed == 1
    assert report.rows == before - 1


def test_a_file_that_a_cloud_drive_has_emptied_keeps_its_row(encoder, photos: Path, index: VectorIndex) -> None:
    before = last(ingest([photos], encoder, index)).rows
    (photos / "red" / "red-0.jpg").write_bytes(b"")
    for only in (None, [photos / "red" / "red-0.jpg"]):
        report = last(sync(photos, ImageIngest(encoder, index), only=only))
        assert (report.rows, report.removed, report.rejected) == (before, 0, ())


def test_a_watched_change_in_a_system_folder_is_left_out(encoder, photos: Path, index: VectorIndex) -> None:
    last(ingest([photos], encoder, index))
    report = last(sync(photos, ImageIngest(encoder, index), only=[photos / "@eaDir" / "preview.jpg"]))
    assert report.indexed == 0


def test_a_damaged_file_is_an_error_and_a_cluster_keeps_nothing(tmp_path: Path) -> None:
    keep_selection(None, KeptSelection(Selection(exclude=("a",))))
    assert read_selection(None) == read_selection(tmp_path) == KeptSelection()
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(IndexInvalid) as raised:
        read_selection(tmp_path)
    assert raised.value.where == tmp_path / FILE
