from pathlib import Path

import pytest

import colours
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ingest
from tuwen.ingest.sync import remove
from tuwen.types import Rejected

COUNT = 2 * len(colours.COLOURS)


@pytest.fixture
def index(tmp_path: Path, encoder):
    """Two pictures of each colour below the root, and two of each in a folder outside."""
    root, more = colours.make_photos(tmp_path / "PHOTOS", 2), colours.make_photos(tmp_path / "MORE", 2)
    with VectorIndex.create(tmp_path / "photos.tuwen", encoder=encoder, root=root) as index:
        for _ in ingest([root, more], encoder, index):
            pass
        yield index


def left(index) -> set[str]:
    return {str(row.payload["path"]) for row in index.list()}


def test_a_key_a_folder_of_keys_and_a_path_on_disk(index, tmp_path: Path) -> None:
    before = left(index)
    report = remove(["red/red-0.jpg", "green", str(tmp_path / "MORE" / "blue") + "/"], index, index.root)
    assert (report.removed, report.rows, report.rejected) == (5, 2 * COUNT - 5, ())
    gone = before - left(index)
    assert gone == {
        "red/red-0.jpg",
        *(f"green/green-{i}.jpg" for i in range(2)),
        *(str(tmp_path / "MORE" / "blue" / f"blue-{i}.jpg") for i in range(2)),
    }


def test_files_that_are_gone_can_be_taken_out_and_files_stay(index, tmp_path: Path) -> None:
    (tmp_path / "PHOTOS" / "red" / "red-0.jpg").unlink()
    assert remove([str(tmp_path / "PHOTOS" / "red")], index, index.root).removed == 2
    assert (tmp_path / "PHOTOS" / "red" / "red-1.jpg").exists()


def test_the_root_stands_for_all_below_it_and_no_more(index, tmp_path: Path) -> None:
    assert remove([str(tmp_path / "PHOTOS")], index, index.root).removed == COUNT
    assert all(Path(path).is_absolute() for path in left(index))


def test_the_working_folder_stands_for_what_is_in_it(index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "PHOTOS" / "red")
    assert (remove(["."], index, index.root).removed, remove(["./"], index, index.root).removed) == (2, 0)
    monkeypatch.chdir(tmp_path / "PHOTOS")
    assert remove(["."], index, index.root).removed == COUNT - 2


def test_a_name_is_no_beginning_of_another(index) -> None:
    report = remove(["re", "red/red-0", "", "/"], index, index.root)
    reason = "the index has nothing of that path"
    assert report.rejected == tuple(Rejected(path, reason) for path in ("re", "red/red-0", ""))
    assert report.removed == COUNT, "what has an absolute path is below /"
    assert len(left(index)) == COUNT


def test_twice_is_once(index) -> None:
    assert remove(["red", "red/red-0.jpg", "red/"], index, index.root).removed == 2
