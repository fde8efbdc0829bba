"""An index that follows a folder: once, killed, and as it changes."""

import io
import os
import queue
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import colours
from journeys.test_killed import rows
from tuwen.errors import IndexLocked
from tuwen.index.index import VectorIndex

pytestmark = [pytest.mark.journey, pytest.mark.long]

INDEX = ("--index", "photos.tuwen")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}


def keys(terminal) -> set[str]:
    return set(terminal.type("index", "list", *INDEX).out.splitlines())


def test_sync_says_what_it_did(terminal, photos: Path, bundle: Path) -> None:
    printed = terminal.type("index", "sync", "PHOTOS", *INDEX, "--model", bundle).out
    assert printed.startswith("photos.tuwen: 15 rows; 15 indexed, 1 skipped; ")
    (photos / "red" / "red-0.jpg").rename(photos / "moved.jpg")
    (photos / "red" / "red-1.jpg").unlink()
    report = terminal.type("index", "sync", "PHOTOS", *INDEX, "--json").json
    assert report.pop("seconds") > 0
    assert report == {
        "index": "photos.tuwen",
        "indexed": 1,
        "unchanged": 13,
        "replaced": 0,
        "removed": 2,
        "skipped": 1,
        "rejected": [],
    }
    assert keys(terminal) == names(photos)
    photos.rename(terminal.folder / "away")
    ended = terminal.type("index", "sync", "PHOTOS", *INDEX, code=2)
    assert "PHOTOS cannot be read: No such file or directory. Is it mounted?" in ended.err
    photos.mkdir()
    ended = terminal.type("index", "sync", "PHOTOS", *INDEX, code=2)
    assert len(ended.err.splitlines()) == 1
    assert "14 of the 14 images in PHOTOS are gone" in ended.err
    assert terminal.type("index", "sync", "PHOTOS", *INDEX, "--yes", "--json").json["removed"] == 14


def test_no_index_is_made_for_a_folder_that_is_not_there(terminal, bundle: Path) -> None:
    terminal.type("index", "sync", "PHOTOS", *INDEX, "--model", bundle, code=2)
    assert not (terminal.folder / "photos.tuwen").exists()


def churn(photos: Path, chance: random.Random, turn: int) -> None:
    """Pictures that come, change, move and go."""
    for i, path in enumerate(sorted(photos.rglob("*.jpg"))):
        match chance.randrange(12):
            case 0:
                path.unlink()
            case 1:
                path.rename(path.parent / f"moved-{turn}-{i}.jpg")
            case 2:
                colours.picture("blue", seed=10_000 * turn + i).save(path)
            case 3:
                colours.picture("green", seed=20_000 * turn + i).save(path.parent / f"new-{turn}-{i}.jpg")


def test_a_killed_sync_goes_on(terminal, bundle: Path) -> None:
    photos = colours.make_photos(terminal.folder / "PHOTOS", count=60)
    words = ("index", "sync", "PHOTOS", *INDEX, "--yes", "--model", bundle, "--progress", "json")
    chance = random.Random(5)
    for turn in range(1, 4):
        process = terminal.start(*words)
        for _ in range(chance.randrange(3)):
            process.stderr.readline()
        time.sleep(chance.choice([0.0, chance.random() / 10, chance.random()]))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        churn(photos, chance, turn)
    terminal.type(*words)
    terminal.type("index", "sync", "PHOTOS", "--index", "undisturbed.tuwen", "--model", bundle)
    expected, found = rows(terminal.folder / "undisturbed.tuwen"), rows(terminal.folder / "photos.tuwen")
    assert set(found) == names(photos)
    assert list(found) == list(expected)
    for key, (payload, vector) in expected.items():
        assert found[key][0] == payload
        np.testing.assert_allclose(found[key][1], vector, atol=1e-6)


class Watching:
    """`tuwen index sync --watch`, and the lines that it says."""

    def __init__(self, terminal, *words: object) -> None:
        self.process = terminal.start("index", "sync", "PHOTOS", *INDEX, "--watch", *words)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        """What it says next."""
        return self._lines.get(timeout=60)

    def ended(self) -> tuple[int, str]:
        """How it ended, and what it said about that."""
        code = self.process.wait(timeout=60)
        self._reader.join()
        with self.process.stdout, self.process.stderr as err:
            return code, err.read()

    def lines(self) -> list[str]:
        """What it has said meanwhile."""
        return [self._lines.get() for _ in range(self._lines.qsize())]


@pytest.fixture
def watching(terminal, photos: Path, bundle: Path):
    """Watching, once the first line is there."""
    watching = Watching(terminal, "--model", bundle)
    assert "15 rows; 15 indexed" in watching.line()
    yield watching
    if not watching.process.stdout.closed:
        watching.process.send_signal(signal.SIGINT)
        watching.ended()


def until(terminal, wanted: set[str], seconds: float = 60) -> None:
    """Wait until the index has these rows; it is looked into as another process would."""
    found: set[str] = set()
    end = time.monotonic() + seconds
    while found != wanted and time.monotonic() < end:
        time.sleep(0.3)
        try:
            with VectorIndex.open(terminal.folder / "photos.tuwen", encoder=None, lock_timeout=5) as index:
                found = {str(row.payload["path"]) for row in index.list()}
        except IndexLocked:
            continue
    assert found == wanted


def test_watch_follows_and_ends_cleanly(terminal, watching: Watching, photos: Path) -> None:
    (photos / "red" / "red-0.jpg").rename(photos / "moved.jpg")
    (photos / "red" / "red-1.jpg").unlink()
    (photos / "new" / "below").mkdir(parents=True)
    colours.picture("blue", seed=50).save(photos / "new" / "below" / "a.jpg")
    assert "15 rows; 2 indexed, 2 removed" in watching.line()
    until(terminal, names(photos))
    (photos / "green").rename(photos.parent / "out")
    until(terminal, names(photos))
    colours.picture("white", seed=51).save(photos / "new" / "below" / "a.jpg")
    assert "3 removed" in watching.line()
    assert "1 replaced" in watching.line()
    watching.process.send_signal(signal.SIGINT)
    assert watching.ended() == (0, f"tuwen: stopped watching {photos}\n")


def test_a_file_that_is_still_being_written_is_read_when_it_is_finished(
    terminal, watching: Watching, photos: Path
) -> None:
    data = io.BytesIO()
    colours.picture("red", seed=60, size=(400, 300)).save(data, "JPEG", quality=95)
    whole = data.getvalue()
    with (photos / "slow.jpg").open("wb") as file:
        for start in range(0, len(whole), len(whole) // 8 + 1):
            file.write(whole[start : start + len(whole) // 8 + 1])
            file.flush()
            time.sleep(0.4)
    until(terminal, names(photos))
    (photos / "paused.jpg").write_bytes(whole[:1000])
    time.sleep(3)
    with (photos / "paused.jpg").open("ab") as file:
        file.write(whole[1000:])
    until(terminal, names(photos))
    printed = [watching.line(), *watching.lines()]
    assert "1 indexed" in printed[0]
    assert "rejected" not in printed[0], "it was read while it was still being written"


def test_events_that_were_lost_are_made_up_for(terminal, watching: Watching, photos: Path) -> None:
    """Asleep, it gets more events than the system keeps for it."""
    kept = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if kept > 100_000:
        pytest.skip("this system keeps so many events that losing some takes too long")
    watching.process.send_signal(signal.SIGSTOP)
    noise = [photos / "a.tmp", photos / "b.tmp"]
    noise[0].touch()
    for i in range(kept // 2 + 100):
        noise[i % 2].rename(noise[1 - i % 2])
    colours.picture("blue", seed=70).save(photos / "unseen.jpg")
    (photos / "white" / "white-0.jpg").unlink()
    watching.process.send_signal(signal.SIGCONT)
    until(terminal, names(photos))


def test_names_that_are_not_utf8_do_not_end_it(terminal, watching: Watching, photos: Path) -> None:
    colours.picture("blue", seed=80).save(photos / os.fsdecode(b"caf\xe9.jpg"))
    colours.picture("blue", seed=81).save(photos / "after.jpg")
    until(terminal, {*(names(photos) - {os.fsdecode(b"caf\xe9.jpg")}), "caf%E9.jpg"})
    assert watching.process.poll() is None


def test_an_index_that_another_holds_is_waited_for(terminal, watching: Watching, photos: Path) -> None:
    with VectorIndex.open(terminal.folder / "photos.tuwen", encoder=None):
        colours.picture("blue", seed=90).save(photos / "later.jpg")
        assert "tuwen: waiting: " in watching.process.stderr.readline()
    until(terminal, names(photos))


def test_a_folder_that_goes_away_keeps_its_rows_and_is_followed_when_it_is_back(
    terminal, watching: Watching, photos: Path
) -> None:
    photos.rename(terminal.folder / "away")
    assert "No such file or directory. Is it mounted?" in watching.process.stderr.readline()
    assert len(keys(terminal)) == 15
    colours.picture("red", seed=7).save(terminal.folder / "away" / "new.jpg")
    (terminal.folder / "away").rename(photos)
    until(terminal, names(photos))
    colours.picture("blue", seed=8).save(photos / "later.jpg")
    until(terminal, names(photos))


def test_a_folder_whose_images_are_gone_keeps_its_rows(terminal, watching: Watching, photos: Path) -> None:
    for folder in ("red", "green", "blue"):
        (photos / folder).rename(terminal.folder / folder)
    assert "No row was removed" in watching.process.stderr.readline()
    assert len(keys(terminal)) >= 12, "at most one of them was seen to go alone"


def test_watching_by_polling(terminal, photos: Path, bundle: Path) -> None:
    watching = Watching(terminal, "--model", bundle, "--poll", "0.2")
    assert "15 rows; 15 indexed" in watching.line()
    (photos / "red").rename(photos / "crimson")
    colours.picture("red", seed=7).save(photos / "new.jpg")
    until(terminal, names(photos))
    watching.process.send_signal(signal.SIGINT)
    assert watching.ended()[0] == 0
