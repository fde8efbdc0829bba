import io
from pathlib import Path
from unicodedata import normalize

import pytest
from PIL import Image

from tuwen.data.files import Skipped, find_files
from tuwen.data.selection import DEFAULT_EXCLUDES, EMPTY, Selection
from tuwen.types import Rejected, Source

_FILE = io.BytesIO()
Image.new("RGB", (4, 4)).save(_FILE, "PNG")
PNG = _FILE.getvalue()


def collection(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return folder


def found(folder: Path, *paths: Path, **options: object) -> tuple[list[str], dict[str, str]]:
    """The keys of what is taken, and the reasons of what is left out."""
    items = list(find_files(paths or [folder], folder, **options))
    assert not [item for item in items if isinstance(item, Rejected)]
    taken = [item.key for item in items if isinstance(item, Source)]
    left_out = {item.path.relative_to(folder).as_posix(): item.excluded for item in items if isinstance(item, Skipped)}
    return taken, {path: reason for path, reason in left_out.items() if reason}


SYSTEM = {
    "@eaDir": "system folder",
    "2023/@eaDir": "system folder",
    "#recycle": "system folder",
    ".Trash-1000": "system folder",
    ".Trashes": "system folder",
    "$RECYCLE.BIN": "system folder",
    "$Recycle.Bin2/$recycle.bin": "system folder",
    "System Volume Information": "system folder",
    "lost+found": "system folder",
    ".thumbnails": "system folder",
    ".cache": "system folder",
    ".git": "system folder",
    "Lightroom/Catalog Previews.lrdata": "previews of another program",
    "Photos Library.photoslibrary/resources": "previews of another program",
    "Session/CaptureOne/Cache": "previews of another program",
}


def test_folders_of_systems_and_other_programs_are_left_out(tmp_path: Path) -> None:
    kept = ["a.png", "Photos Library.photoslibrary/originals/0/b.png", "cache/c.png", "recycle/d.png"]
    collection(tmp_path, *kept, *(f"{name}/x.png" for name in SYSTEM))
    taken, left_out = found(tmp_path)
    assert sorted(taken) == sorted(kept)
    assert left_out == SYSTEM


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("._photo.jpg", "system file"),
        (".DS_Store", "system file"),
        ("~$photo.png", "system file"),
        ("photo.jpg.part", "partial download"),
        ("photo.png.crdownload", "partial download"),
        ("photo.png.download/photo.png", "partial download"),
    ],
)
def test_system_files_and_partial_downloads_are_left_out(tmp_path: Path, name: str, reason: str) -> None:
    collection(tmp_path, name, "a.png")
    assert reason in DEFAULT_EXCLUDES
    assert found(tmp_path) == (["a.png"], {name.split("/", maxsplit=1)[0]: reason})
    assert len(found(tmp_path, selection=Selection(default_excludes=False))[0]) == 2


def test_an_empty_file_is_left_out_and_counts_as_unknown(tmp_path: Path) -> None:
    collection(tmp_path, "a.png")
    (tmp_path / "cloud.jpg").touch()
    assert found(tmp_path) == (["a.png"], {"cloud.jpg": EMPTY})
    (skipped,) = [item for item in find_files([tmp_path], tmp_path) if isinstance(item, Skipped)]
    assert skipped.reason
    assert found(tmp_path, selection=Selection(default_excludes=False))[0] == ["a.png", "cloud.jpg"]


def test_what_is_named_itself_is_taken(tmp_path: Path) -> None:
    collection(tmp_path, ".cache/a.png", "x.part", ".cache/@eaDir/b.png")
    (tmp_path / "empty.jpg").touch()
    paths = [tmp_path / name for name in (".cache", "x.part", "empty.jpg")]
    assert found(tmp_path, *paths) == ([".cache/a.png", "x.part", "empty.jpg"], {".cache/@eaDir": "system folder"})


def test_patterns_of_ones_own(tmp_path: Path) -> None:
    collection(tmp_path, "a.png", "b.jpg", "old/c.png", "x/old/d.png", "x/e.png", ".cache/f.png")
    taken, left_out = found(tmp_path, selection=Selection(exclude=("old/", "/x/*.png")))
    assert taken == ["a.png", "b.jpg"]
    assert left_out == {
        "old": "--exclude",
        "x/old": "--exclude",
        "x/e.png": "--exclude",
        ".cache": "system folder",
    }
    assert found(tmp_path, selection=Selection(include=("*.jpg", "x/**")))[0] == ["b.jpg", "x/e.png", "x/old/d.png"]
    assert ".cache/f.png" in found(tmp_path, selection=Selection(exclude=("!.cache/",)))[0]


@pytest.mark.parametrize(("typed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_patterns_match_names_in_either_unicode_normalization(tmp_path: Path, typed: str, stored: str) -> None:
    collection(tmp_path, normalize(stored, "Café/a.png"), "b.png")
    assert found(tmp_path, selection=Selection(exclude=[normalize(typed, "Café/")]))[0] == ["b.png"]


def test_ignore_files_as_git_reads_them(tmp_path: Path) -> None:
    collection(tmp_path, "a.png", "tmp/b.png", "x/tmp/c.png", "x/d.jpg", "x/y/d.jpg", ".cache/e.png", "x/keep.jpg")
    (tmp_path / ".tuwenignore").write_text("# comment\n/tmp/\n*.jpg\n!.cache/\n", encoding="utf-8")
    (tmp_path / "x" / ".tuwenignore").write_text("!keep.jpg\n", encoding="utf-8")
    taken, left_out = found(tmp_path)
    assert taken == [".cache/e.png", "a.png", "x/keep.jpg", "x/tmp/c.png"]
    assert left_out == {"tmp": ".tuwenignore", "x/d.jpg": ".tuwenignore", "x/y/d.jpg": ".tuwenignore"}


def test_a_part_of_a_folder_is_selected_as_in_the_whole(tmp_path: Path) -> None:
    collection(tmp_path, "a.png", "@eaDir/a.png", "x/@eaDir/b.png", "x/c.png", "x/y/d.png")
    (tmp_path / "x" / ".tuwenignore").write_text("y/\n", encoding="utf-8")
    paths = [tmp_path / name for name in ("@eaDir/a.png", "x/@eaDir", "x/c.png", "x/y/d.png")]
    taken, left_out = found(tmp_path, *paths, within=tmp_path)
    assert taken == ["x/c.png"]
    assert left_out == {
        "@eaDir/a.png": "system folder",
        "x/@eaDir": "system folder",
        "x/y/d.png": ".tuwenignore",
    }
