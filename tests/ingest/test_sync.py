import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

import colours
from ingest.test_ingest import COUNT, Counting, rows
from tuwen.data.samples import Columns
from tuwen.errors import InvalidInput, TooManyRemoved
from tuwen.index.index import VectorIndex
from tuwen.ingest.images import ImageIngest, ingest
from tuwen.ingest.payloads import SIDECAR
from tuwen.ingest.sync import keys_at, sync
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
    with pytest.raises(InvalidInput) as away:
        run(index, encoder, photos)
    assert away.value.where == photos
    photos.mkdir()
    (photos / "lost+found").mkdir()
    with pytest.raises(TooManyRemoved) as empty:
        run(index, encoder, photos)
    assert (empty.value.value, empty.value.where) == (COUNT, photos)
    assert index.info().rows == COUNT
    assert run(index, encoder, photos, max_removed=1) == IngestReport(rows=0, removed=COUNT, skipped=1)
    photos.rmdir() if not any(photos.iterdir()) else shutil.rmtree(photos)
    photos.write_text("a file")
    with pytest.raises(InvalidInput):
        run(index, encoder, photos, max_removed=1)


def test_a_disk_that_is_not_mounted_below_the_folder_removes_nothing(
    index, encoder, photos: Path, tmp_path: Path
) -> None:
    run(index, encoder)
    for name in ("red", "green"):
        (photos / name).rename(tmp_path / name)
    (photos / "white" / "white-0.jpg").rename(photos / "moved.jpg")
    with pytest.raises(TooManyRemoved) as refused:
        run(index, encoder)
    assert refused.value.value == 6, "moved images are not gone"
    assert index.info().rows == COUNT + 1
    with pytest.raises(TooManyRemoved):
        run(index, encoder, only=[photos / "red", photos / "green"])
    assert run(index, encoder, max_removed=0.5).removed == 7


def test_a_mount_point_without_its_disk_keeps_its_rows(index, counting, photos: Path, tmp_path: Path) -> None:
    rest = colours.make_photos(tmp_path / "rest", count=12)
    disk = photos / "disk"
    shutil.copytree(rest / "red", disk / "inner")
    rest.rename(photos / "rest")
    run(index, counting)
    stored, encoded = index.info().rows, counting.encoded
    shutil.move(disk / "inner", tmp_path / "unmounted")
    (photos / "red" / "red-0.jpg").unlink()
    for _ in range(3):
        report = run(index, counting)
        assert [item.path for item in report.rejected] == ["disk"]
        assert report.rows == stored - 1, "what was deleted elsewhere is removed"
    assert [item.path for item in run(index, counting, only=[disk]).rejected] == ["disk"]
    shutil.move(tmp_path / "unmounted", disk / "inner")
    assert run(index, counting).rejected == ()
    assert counting.encoded == encoded
    shutil.move(disk / "inner", photos / "elsewhere")
    moved = run(index, counting)
    assert (moved.removed, moved.rejected) == (12, ()), "moved images are not kept twice"
    shutil.move(photos / "elsewhere", disk / "inner")
    run(index, counting)
    shutil.rmtree(disk)
    assert run(index, counting).removed == 12, "the folder itself was deleted"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
@pytest.mark.parametrize("after", ["missing", "dangling", "yes", "a plain folder", "back"])
def test_a_disk_that_was_mounted_keeps_its_rows(index, counting, photos: Path, tmp_path: Path, after: str) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == photos.stat().st_dev:
            pytest.skip("needs a second file system")
        disk, away = Path(other) / "disk", Path(other) / "away"
        colours.make_photos(disk, count=1)
        (photos / "disk").symlink_to(disk)
        run(index, counting)
        new = len(colours.COLOURS)
        disk.rename(away)
        if after in ("missing", "yes"):
            (photos / "disk").unlink()
        if after == "a plain folder":
            (photos / "disk").unlink()
            shutil.copytree(away, photos / "disk")
            (photos / "disk" / "red" / "red-0.jpg").unlink()
        if after == "back":
            run(index, counting)
            away.rename(disk)
            shutil.rmtree(disk / "red")
        report = run(index, counting, max_removed=1 if after == "yes" else 0.5)
        kept, rejected = {
            "missing": (new, ["disk"]),
            "dangling": (new, []),  # a link that leads nowhere is nothing that can be looked at
            "yes": (0, []),
            "a plain folder": (new - 1, []),
            "back": (new - 1, []),
        }[after]
        assert (report.rows - COUNT, [item.path for item in report.rejected]) == (kept, rejected)


def test_many_moved_images_are_no_loss(index, encoder, photos: Path) -> None:
    run(index, encoder)
    for folder in sorted(photos.iterdir()):
        if folder.is_dir():
            folder.rename(photos / f"new {folder.name}")
    assert run(index, encoder).removed == COUNT


def test_edits_that_kept_size_and_time_are_found_by_content(index, counting, photos: Path) -> None:
    run(index, counting)
    file = photos / "red" / "red-0.jpg"
    state, content = file.stat(), (photos / "blue" / "blue-0.jpg").read_bytes()
    file.write_bytes(content[:100].ljust(state.st_size, b"x") if len(content) > state.st_size else content)
    file.write_bytes(file.read_bytes().ljust(state.st_size, b"\0")[: state.st_size])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert run(index, counting).unchanged == COUNT
    before = counting.encoded
    pictures = ImageIngest(counting, index, verify_content=True)
    report = list(sync(photos, pictures))[-1]
    assert (report.replaced + len(report.rejected), report.unchanged) == (1, COUNT - 1)
    assert counting.encoded <= before + 1


@pytest.mark.parametrize("how", ["add", "sync"])
@pytest.mark.parametrize(("before", "after"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_the_other_unicode_normalization_is_the_same_file(
    index, counting, photos: Path, how: str, before: str, after: str
) -> None:
    name = "Café déjà.jpg"
    (photos / "red" / "red-0.jpg").rename(photos / "red" / normalize(before, name))
    run(index, counting)
    encoded = counting.encoded
    (photos / "red" / normalize(before, name)).rename(photos / "red" / normalize(after, name))
    if how == "sync":
        run(index, counting)
    else:
        list(ingest([photos], counting, index))
    stored = {str(row.payload["path"]) for row in index.list()}
    assert len(stored) == COUNT
    assert f"red/{normalize(after, name)}" in stored
    assert counting.encoded == encoded
    assert keys_at(f"red/{normalize(before, name)}", index.root, index.keys()) == [f"red/{normalize(after, name)}"]


def test_two_files_whose_names_differ_in_normalization_are_two(index, encoder, photos: Path) -> None:
    for form in ("NFC", "NFD"):
        colours.picture("red", seed=len(normalize(form, "é"))).save(photos / f"{normalize(form, 'é')}.jpg")
    if len({path.name for path in photos.glob("*.jpg")}) < 2:
        pytest.skip("this file system takes both names for one")
    run(index, encoder)
    assert run(index, encoder) == IngestReport(rows=COUNT + 2, unchanged=COUNT + 2, skipped=1)


def test_a_folder_that_is_exchanged_meanwhile_empties_nothing(index, encoder, photos: Path, tmp_path: Path) -> None:
    run(index, encoder)
    colours.picture("red", seed=7).save(photos / "white" / "new.jpg")
    pictures = ImageIngest(encoder, index)
    running = sync(photos, pictures)
    next(running)
    photos.rename(tmp_path / "away")
    photos.mkdir()
    with pytest.raises(InvalidInput) as raised:
        list(running)
    assert raised.value.where == photos
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
    with pytest.raises(InvalidInput) as raised:
        run(index, encoder, max_removed=1)
    assert raised.value.where == photos
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
    with pytest.raises(InvalidInput, match="Input/output error") as raised:
        run(index, encoder, max_removed=1)
    assert raised.value.where == photos
    assert index.info().rows == COUNT - 1


def test_a_picture_that_is_broken_now_keeps_its_row(index, encoder, photos: Path) -> None:
    run(index, encoder)
    (photos / "red" / "red-0.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    report = run(index, encoder)
    assert (report.rows, report.removed, [item.path for item in report.rejected]) == (COUNT, 0, ["red/red-0.jpg"])


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmp:Rating="{rating}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def state(sidecar: Path, rating: int, modified: float) -> None:
    sidecar.write_text(XMP.format(rating=rating), encoding="utf-8")
    os.utime(sidecar, (modified, modified))


def rated(index, rating: int) -> set[str]:
    return {*index.keys(f"rating == {rating}")}


def test_sidecars_that_are_new_changed_and_gone(index, counting, photos: Path) -> None:
    state(photos / "red" / "red-0.xmp", 3, 1e9)
    run(index, counting)
    assert rated(index, 3) == {"red/red-0.jpg"}
    state(photos / "red" / "red-0.xmp", 4, 2e9)
    state(photos / "red" / "red-1.jpg.XMP", 2, 1e9)
    assert run(index, counting) == IngestReport(rows=COUNT, unchanged=COUNT, skipped=3)
    assert (rated(index, 4), rated(index, 2), rated(index, 3)) == ({"red/red-0.jpg"}, {"red/red-1.jpg"}, set())
    state(photos / "red" / "red-0.jpg.xmp", 5, 2e9)  # the longer name counts
    run(index, counting, only=[photos / "red" / "red-0.jpg.xmp"])
    assert (rated(index, 5), rated(index, 4)) == ({"red/red-0.jpg"}, set())
    (photos / "red" / "red-0.jpg.xmp").unlink()
    (photos / "red" / "red-0.xmp").unlink()
    run(index, counting, only=[photos / "red" / "red-0.xmp"])
    (row,) = index.payloads(["red/red-0.jpg"]).values()
    assert not {"rating", *SIDECAR} & row.keys()
    assert rated(index, 2) == {"red/red-1.jpg"}
    assert counting.encoded == COUNT


def test_a_sidecar_is_read_again_with_all_facts(index, counting, photos: Path) -> None:
    sidecar = photos / "red" / "red-0.xmp"
    state(sidecar, 3, 1e9)
    run(index, counting)
    state(sidecar, 4, 1e9)  # its time does not tell
    run(index, counting)
    assert rated(index, 4) == set()
    list(sync(photos, ImageIngest(counting, index, refresh_facts=True)))
    assert rated(index, 4) == {"red/red-0.jpg"}
    sidecar.write_bytes(b"damaged")
    run(index, counting)
    assert rated(index, 4) == set()


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
