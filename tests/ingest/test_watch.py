from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from tuwen.ingest.watch import MANY, QUIET, REST, Due, Pending, watched


@pytest.fixture
def pending(tmp_path: Path) -> Pending:
    pending = Pending(tmp_path)
    assert pending.take(100.0) == Due(None), "at first, the whole folder is due"
    assert pending.take(100.0) is None
    return pending


def test_what_is_still_being_written_waits(pending: Pending, tmp_path: Path) -> None:
    slow, quick = tmp_path / "slow.jpg", tmp_path / "quick.jpg"
    pending.note({slow, quick}, 200.0)
    pending.note({slow}, 200.0 + REST)
    assert pending.take(200.0 + REST / 2) is None
    assert pending.take(200.0 + REST) == Due((quick,))
    pending.note({slow}, 201.0 + REST)
    assert pending.take(201.5 + REST) is None
    assert pending.take(201.0 + 2 * REST) == Due((slow,))


def test_after_changes_the_whole_folder_is_compared_once(pending: Pending, tmp_path: Path) -> None:
    pending.note({tmp_path / "a"}, 200.0)
    assert pending.take(200.0 + REST) == Due((tmp_path / "a",))
    pending.note({tmp_path / "b"}, 205.0)
    assert pending.take(205.0 + REST) == Due((tmp_path / "b",))
    assert pending.take(204.9 + QUIET) is None
    assert pending.take(205.0 + QUIET) == Due(None)
    assert pending.take(1e6) is None


def test_lost_changes_and_very_many_are_the_whole_folder(pending: Pending, tmp_path: Path) -> None:
    pending.note(None, 200.0)
    assert pending.take(200.0) == Due(None)
    pending.note({tmp_path / f"{i}" for i in range(MANY + 1)}, 300.0)
    assert pending.take(300.0 + REST) == Due(None)


def test_links_are_the_whole_folder(pending: Pending, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for inside, due in {
        "real/a": (tmp_path / "real/a",),
        "link/a": None,
        "link": None,
        "real": (tmp_path / "real",),
    }.items():
        pending.note({tmp_path / inside}, 200.0)
        assert pending.take(200.0 + REST) == Due(due), inside


def test_what_could_not_be_looked_at_is_due_again(pending: Pending, tmp_path: Path) -> None:
    for due in (Due((tmp_path / "a",)), Due(None)):
        pending.give_back(due, 200.0)
        assert pending.take(200.0 + REST) == due


def until(changes: Generator[set[Path] | None], wanted: Path | None) -> None:
    """Take changes until this path is among them; None: until changes were lost, so that all is compared."""
    limit = monotonic() + 60
    for changed in changes:
        if (changed is None) if wanted is None else bool(changed) and wanted in changed:
            return
        assert monotonic() < limit


@pytest.mark.parametrize("poll", [None, 0.05])
def test_renames_and_a_folder_that_goes_away_and_comes_back(tmp_path: Path, poll: float | None) -> None:
    pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
    folder = tmp_path / "photos"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "a.jpg").touch()
    with closing(watched(folder, None, poll)) as changes:
        next(changes)
        (folder / "old").rename(folder / "new")
        until(changes, folder / "new")
        folder.rename(tmp_path / "away")
        for _ in range(8):
            next(changes)
        (tmp_path / "away").rename(folder)
        until(changes, None)
        next(changes)
        (folder / "b.jpg").touch()
        until(changes, folder / "b.jpg")
