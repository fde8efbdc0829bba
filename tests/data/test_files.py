from pathlib import Path

import pytest

import colours
from tuwen.data import files
from tuwen.data.files import Skipped, find_files
from tuwen.types import Rejected, Source


def test_a_folder_may_be_passed_over(tmp_path: Path) -> None:
    root = colours.make_photos(tmp_path, 1)
    found = list(find_files([root], root, but=root / "red"))
    assert sorted(item.key for item in found if isinstance(item, Source)) == [
        f"{colour}/{colour}-0.jpg" for colour in sorted(colours.COLOURS) if colour != "red"
    ]
    assert len(list(find_files([root], root))) == len(colours.COLOURS) + 1


def test_a_folder_that_cannot_be_opened_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs this may be allowed to open anything, so the finding is given; what is made of it is tried."""
    (tmp_path / "closed").mkdir()
    found = [Skipped(tmp_path / "closed", "the folder cannot be opened: no"), Skipped(tmp_path / "a.txt")]
    monkeypatch.setattr(files, "find_sources", lambda *_: iter(found))
    assert list(find_files([tmp_path], tmp_path)) == [Rejected("closed", found[0].reason), found[1]]
