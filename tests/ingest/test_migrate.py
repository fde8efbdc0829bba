"""An index of one model becomes an index of another: what stays, what is refused, and kills at any moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest

import colours
import tuwen
from cli.running import run as command
from full_disk import fill
from local_cluster import LOCAL_MODE_SAYS, local_cluster
from shapes import shape, written_shapes
from tuwen.errors import IndexFault, IndexLocked, InvalidInput, RejectedImages
from tuwen.index.calibration import Calibration
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.ingest.images import ingest
from tuwen.ingest.migrate import migrate
from tuwen.ingest.texts import ingest_list
from tuwen.search import search as searching
from tuwen.types import Row

STORES = ["qdrant-edge", "faiss"]
TEXTS = {"texts/red": "a photo of red", "texts/blue": "blau"}
COUNT = 3
ROWS = COUNT * len(colours.COLOURS) + len(TEXTS)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.make_bundle(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="session")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colours.make_bundle(tmp_path_factory.mktemp("models") / "third", seed=2)


def copied(source: Path, target: Path) -> Path:
    """Copy a folder, holes as holes."""
    subprocess.run(["cp", "-R", source, target], check=True)
    return target


def build(place: Path, encoder, photos: Path, store: str = "qdrant-edge") -> None:
    with VectorIndex.create(place, encoder=encoder, root=photos, store=store) as index:
        for reports in (ingest([photos], encoder, index), ingest_list(TEXTS, encoder, index)):
            assert [*reports]


@pytest.fixture(scope="session", params=STORES)
def built(request: pytest.FixtureRequest, memory: Path, encoder) -> Path:
    """A folder with PHOTOS and their index, which also has texts, a field of its own and thresholds."""
    place = memory / request.param
    photos = colours.make_photos(place / "PHOTOS", COUNT)
    build(place / "photos.tuwen", encoder, photos, request.param)
    with VectorIndex.open(place / "photos.tuwen", encoder=encoder) as index:
        red = index.payloads(["red/red-0.jpg"])["red/red-0.jpg"]
        index.update_payloads({"red/red-0.jpg": {**red, "album": "summer"}})
        index.calibrate(Calibration(fingerprint=encoder.fingerprint))
    return place


@pytest.fixture
def place(built: Path, memory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield copied(built, Path(folder) / "place")


@pytest.fixture
def edge(built: Path, place: Path) -> Path:
    if (built / "photos.tuwen" / "faiss").exists():
        pytest.skip("does not depend on the store")
    return place


def content(index: VectorIndex) -> dict[str, tuple[dict, bytes]]:
    listed = {row.id: dict(row.payload) for row in index.list()}
    vectors = index.vectors(list(listed))
    return {name: (payload, vectors[name].tobytes()) for name, payload in listed.items()}


def content_at(folder: Path) -> dict[str, tuple[dict, bytes]]:
    with VectorIndex.open(folder, encoder=None, lock_timeout=0) as index:
        return content(index)


def same_rows(found: dict, payloads: dict, vectors: dict) -> bool:
    """Whether these are the payloads of one index and, within a rounding, the vectors of another."""
    assert {name: payload for name, (payload, _) in found.items()} == {name: it for name, (it, _) in payloads.items()}
    return all(
        np.allclose(np.frombuffer(vector, np.float32), np.frombuffer(vectors[name][1], np.float32), atol=1e-5)
        for name, (_, vector) in found.items()
    )


@pytest.fixture
def anew(place: Path, other: Path) -> dict[str, tuple[dict, bytes]]:
    """An index that the other model has built."""
    build(place / "anew.tuwen", tuwen.load(str(other)), place / "PHOTOS")
    return content_at(place / "anew.tuwen")


def test_only_the_vectors_change(place: Path, other: Path, anew: dict, encoder) -> None:
    before = content_at(place / "photos.tuwen")
    made = manifest_of(place / "photos.tuwen")
    with tuwen.Index.open(place / "photos.tuwen", encoder=encoder) as index:
        report = index.migrate(str(other), progress=False)
        assert (report.rows, report.indexed, report.rejected, index.report) == (ROWS, ROWS, (), report)
        assert same_rows(content(index), before, anew)
        assert index.search(Path(place / "PHOTOS/red/red-1.jpg"), k=1)[0].payload["path"] == "red/red-1.jpg"
        assert index.search("rot", k=1, where='type == "image"')[0].payload["folder"] == "red"
        assert index.calibration() is None
        assert len(index.migration_notes()) == 1, "the thresholds are another model's"
        index.add({"texts/new": "green"}, progress=False)
    now = manifest_of(place / "photos.tuwen")
    assert (now.fingerprint, now.bundle) == (tuwen.load(str(other)).fingerprint, str(other))
    kept = ("store", "kind", "metric", "root", "created")
    assert [getattr(now, name) for name in kept] == [getattr(made, name) for name in kept]
    assert not {path.name for path in (place / "photos.tuwen").iterdir()} & {"shard", "faiss", "rows-2"}
    with tuwen.Index.open(place / "photos.tuwen") as index:
        assert index.encoder.fingerprint == now.fingerprint
        assert index.info().rows == ROWS + 1


def test_there_and_back(place: Path, other: Path, bundle: Path) -> None:
    before = content_at(place / "photos.tuwen")
    for model in (other, bundle):
        with tuwen.Index.open(place / "photos.tuwen") as index:
            index.migrate(str(model), progress=False)
            assert index.migrate(str(model), progress=False).indexed == 0
    assert same_rows(content_at(place / "photos.tuwen"), before, before)
    with tuwen.Index.open(place / "photos.tuwen") as index:
        assert index.calibration() is not None, "the thresholds are this model's again"
        assert index.migration_notes() == ()
    assert [path.name for path in (place / "photos.tuwen").glob("rows-*")] == ["rows-2"]


def test_files_that_are_gone(place: Path, other: Path, encoder) -> None:
    gone, kept = place / "PHOTOS/red/red-0.jpg", place / "PHOTOS/blue/blue-0.jpg"
    with tuwen.Index.open(place / "photos.tuwen", encoder=encoder) as index:
        index.upsert([Row("blue/copy.jpg", *_row(index, "blue/blue-0.jpg", "blue/copy.jpg"))])
        gone.unlink()
        kept.write_bytes(b"")
        before = content(index)
        with pytest.raises(RejectedImages) as caught:
            index.migrate(str(other), progress=False)
        missing = {"red/red-0.jpg", "blue/blue-0.jpg", "blue/copy.jpg"}
        assert {item.path for item in caught.value.rejected} == missing
        assert caught.value.hint
        assert content(index) == before
        shutil.copy(place / "PHOTOS/blue/blue-1.jpg", kept)  # of another content: it is encoded as it is now
        report = index.migrate(str(other), allow_missing=True, progress=False)
        assert {item.path for item in report.rejected} == missing - {"blue/blue-0.jpg"}
        assert (report.rows, report.indexed) == (ROWS - 1, 1)
        rows = index.payloads(["blue/blue-0.jpg", "blue/blue-1.jpg"])
        assert rows["blue/blue-0.jpg"]["content"] == rows["blue/blue-1.jpg"]["content"]
        assert rows["blue/blue-0.jpg"]["path"] == "blue/blue-0.jpg"
        assert index.sync(progress=False).replaced == 0


def _row(index: VectorIndex, key: str, copy: str):
    [hit] = index.search(index.known(str(index.payloads([key])[key]["content"])).vector, k=1)
    return index.vectors([hit.id])[hit.id], {**hit.payload, "path": copy}


def test_a_copy_of_a_file_that_is_gone_has_its_vector(edge: Path, other: Path, encoder) -> None:
    with tuwen.Index.open(edge / "photos.tuwen", encoder=encoder) as index:
        index.upsert([Row("blue/copy.jpg", *_row(index, "blue/blue-0.jpg", "blue/copy.jpg"))])
        assert index.migrate(str(other), progress=False).rejected == ()


def test_nothing_is_left_of_an_unmounted_disk(edge: Path, other: Path) -> None:
    with tuwen.Index.open(edge / "photos.tuwen") as index:
        index.remove(where='type == "text"')
        (edge / "PHOTOS").rename(edge / "unmounted")
        with pytest.raises(RejectedImages):
            index.migrate(str(other), allow_missing=True, progress=False)
        assert index.info().rows == ROWS - len(TEXTS)


class Watched:
    """An encoder that does something before it encodes its first images, and counts them."""

    def __init__(self, encoder, first: Callable[[], None]) -> None:
        self._encoder, self._first = encoder, first
        self.encoded = 0

    def encode_pixels(self, pixels):
        if not self.encoded:
            self._first()
        self.encoded += len(pixels)
        return self._encoder.encode_pixels(pixels)

    def __getattr__(self, name: str):
        return getattr(self._encoder, name)


def test_what_others_change_meanwhile(place: Path, other: Path, encoder) -> None:
    """The index is not locked while images are encoded."""

    def change() -> None:
        with VectorIndex.open(place / "photos.tuwen", encoder=encoder, lock_timeout=5) as index:
            colours.picture("green", seed=77).save(place / "PHOTOS/green/new.jpg")
            assert [*ingest([place / "PHOTOS"], encoder, index)]
            index.remove(["red/red-1.jpg"])
            red = index.payloads(["red/red-2.jpg"])["red/red-2.jpg"]
            index.update_payloads({"red/red-2.jpg": {**red, "album": "winter"}})
            assert index.search(index.known(str(red["content"])).vector, k=1)

    watched = Watched(tuwen.load(str(other)), change)
    opened = lambda: VectorIndex.open(place / "photos.tuwen", encoder=None)  # noqa: E731
    *_, report = migrate(opened, watched, str(other))
    found = {str(payload["path"]): payload for payload, _ in content_at(place / "photos.tuwen").values()}
    assert (report.rows, len(found)) == (ROWS, ROWS)
    assert "green/new.jpg" in found
    assert "red/red-1.jpg" not in found
    assert found["red/red-2.jpg"]["album"] == "winter"
    build(place / "anew.tuwen", tuwen.load(str(other)), place / "PHOTOS")
    there = content_at(place / "photos.tuwen")
    assert same_rows(there, there, content_at(place / "anew.tuwen"))


def test_interrupted_it_encodes_the_rest(place: Path, other: Path, third: Path) -> None:
    with tuwen.Index.open(place / "photos.tuwen") as index:
        blue = [path.rename(f"{path}.away") for path in (place / "PHOTOS/blue").iterdir()]
        with pytest.raises(RejectedImages):
            index.migrate(str(other), progress=False)
        assert len(index.migration_notes()) == 1
        with pytest.raises(RejectedImages):
            index.migrate(str(third), progress=False)
        for path in blue:
            path.rename(str(path).removesuffix(".away"))
        report = index.migrate(str(third), progress=False)
        assert (report.indexed, report.unchanged) == (COUNT, ROWS - COUNT)
        assert index.info().fingerprint == tuwen.load(str(third)).fingerprint


def test_a_migrated_index_on_a_read_only_disk(place: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tuwen.Index.open(place / "photos.tuwen") as index:
        index.migrate(str(other), progress=False)
        found = content(index)
    monkeypatch.setattr("tuwen.index.index.is_read_only", lambda _: True)
    assert content_at(place / "photos.tuwen") == found


def test_a_search_during_the_change_is_one_of_the_new_rows(
    edge: Path, bundle: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, encoders = searching.search, []
    with tuwen.Index.open(edge / "photos.tuwen", encoder=tuwen.load(str(bundle))) as index:

        def interrupted(terms, encoder, rows, wanted):
            encoders.append(encoder.fingerprint)
            if len(encoders) == 1:
                index.migrate(str(other), progress=False)
            return original(terms, encoder, rows, wanted)

        monkeypatch.setattr(searching, "search", interrupted)
        hits = index.search("rot", k=3)
        assert len(set(encoders)) == len(encoders) == 2
        assert index.search("rot", k=3) == hits


def test_two_at_once(edge: Path, other: Path, encoder) -> None:
    with tuwen.Index.open(edge / "photos.tuwen") as index:

        def again() -> None:
            with pytest.raises(IndexLocked):
                [*migrate(lambda: nullcontext(index), tuwen.load(str(other)), "")]

        [*migrate(lambda: nullcontext(index), Watched(tuwen.load(str(other)), again), str(other))]
        assert index.info().rows == ROWS


@pytest.mark.filterwarnings(*(f"ignore:{said}" for said in LOCAL_MODE_SAYS))
def test_a_cluster_is_refused(edge: Path, encoder, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_cluster(monkeypatch) as cluster:
        VectorIndex.create(cluster, encoder=encoder, root=edge).close()
        with tuwen.Index.open(cluster, encoder=encoder) as index, pytest.raises(InvalidInput) as caught:
            index.migrate(str(other))
    assert caught.value.hint


def test_the_command(place: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert command("index", "migrate", "photos.tuwen").exit_code == 2
    (place / "PHOTOS/red/red-0.jpg").unlink()
    refused = command("index", "migrate", "photos.tuwen", "--model", other)
    assert refused.exit_code == 1
    assert "red/red-0.jpg" in refused.stderr
    document = json.loads(command("index", "info", "--index", "photos.tuwen", "--json").stdout)
    assert len(document["notes"]) == 1
    done = command("index", "migrate", "photos.tuwen", "--model", other, "--yes", "--json")
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    assert {name: document[name] for name in ("index", "from", "to", "rows", "encoded", "unchanged")} == {
        "index": "photos.tuwen",
        "from": "colours",
        "to": "colours",
        "rows": ROWS - 1,
        "encoded": 0,
        "unchanged": ROWS - 1,
    }
    assert shape(document) == written_shapes(Path(__file__).parents[2])["index migrate"]
    assert [item["path"] for item in document["rejected"]] == ["red/red-0.jpg"]
    again = command("index", "migrate", "photos.tuwen", "--model", other)
    assert again.exit_code == 0
    found = command("search", "green", "--index", "photos.tuwen", "--json", "-k", "1")
    assert json.loads(found.stdout)["hits"][0]["payload"]["folder"] == "green"


@contextmanager
def running(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which is killed at the end of the block if it has not ended."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tuwen.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "tuwen", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("stopped", [signal.SIGKILL, signal.SIGTERM])
def test_a_running_service_answers_until_the_new_rows_are_whole(
    place: Path, bundle: Path, other: Path, stopped: signal.Signals
) -> None:
    index = place / "photos.tuwen"
    serve = ("serve", "--index", index, "--model", bundle, "--port", 0, "--no-open", "--log", "none", "--json")
    with running(*serve) as service:
        assert service.stdout
        url = json.loads("".join(iter(service.stdout.readline, "}\n")) + "}")["url"]
        with running("index", "migrate", index, "--model", other, "--json") as migration:
            assert migration.stderr
            waiting = migration.stderr.readline()
            assert str(service.pid) in waiting
            assert str(index) in waiting
            with tuwen.Client(url) as client:
                assert client.search("green", k=1)[0].payload["folder"] == "green"
                assert client.models()[0].fingerprint == manifest_of(index).fingerprint
            assert migration.poll() is None
            service.send_signal(stopped)
            printed, _ = migration.communicate(timeout=60)
            assert migration.returncode == 0
    assert json.loads(printed)["rows"] == ROWS
    with tuwen.Index.open(index) as found:
        assert found.info().fingerprint == tuwen.load(str(other)).fingerprint
        assert found.search("green", k=1)[0].payload["folder"] == "green"


@pytest.mark.parametrize("disk", [900], indirect=True)
def test_a_full_disk_loses_nothing(built: Path, disk: Path, other: Path) -> None:
    shutil.copytree(built, disk, dirs_exist_ok=True)
    index = disk / "photos.tuwen"
    before = content_at(index)
    faiss = manifest_of(index).store == "faiss"
    for leave in (0, 4, 9, 12) if faiss else (0, 100, 200, 450):
        fill(disk, leave * 2**20)
        done = command("index", "migrate", index, "--model", other)
        for path in disk.glob("other*"):
            path.unlink()
        if done.exit_code == 0:
            break
        assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
        assert str(index) in done.stderr
        assert content_at(index) == before
    assert leave > 0, "it was migrated on a full disk"
    assert command("index", "migrate", index, "--model", other).exit_code == 0
    assert manifest_of(index).fingerprint == tuwen.load(str(other)).fingerprint
    assert {key: row[0] for key, row in content_at(index).items()} == {key: row[0] for key, row in before.items()}


def test_a_copy_of_an_index_that_is_open(place: Path, encoder) -> None:
    index = place / "photos.tuwen"
    with VectorIndex.open(index, encoder=encoder) as opened, VectorIndex.snapshot(index) as copy:
        before = copy.keys()
        assert {*before} == {*opened.keys()}
        with pytest.raises(IndexFault):
            copy.remove(["red/red-0.jpg"])
        opened.remove(["red/red-0.jpg"])
        assert copy.keys() == before
        assert opened.count() == ROWS - 1


HERE = Path(__file__).parent


def migrating(index: Path, bundle: Path, last: int, seconds: float | None = None) -> str:
    """Run a migration that kills itself at its n-th change, or is killed after some seconds; what it printed."""
    source = str(Path(tuwen.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "migrating.py", index, bundle, str(last)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    printed, errors = process.communicate()
    assert process.returncode in (0, -9), errors
    return printed


def kill_at(place: Path, anew: dict, moments: Sequence[int | float], other: Path) -> None:
    """Kill a migration at these changes (int), or after so many seconds (float).

    Each time it leaves the old index or the new one, and can be run again.
    """
    index, made = place / "photos.tuwen", manifest_of(place / "photos.tuwen").fingerprint
    before, states = content_at(index), set()
    for moment in moments:
        killed = copied(index, place / "killed.tuwen")
        if isinstance(moment, int):
            assert not migrating(killed, other, moment)
        else:
            migrating(killed, other, 0, moment)
        found = content_at(killed)
        state = manifest_of(killed).fingerprint == made
        states.add(state)
        assert same_rows(found, before, before if state else anew)
        assert migrating(killed, other, 0)
        assert same_rows(content_at(killed), before, anew)
        assert {path.name for path in killed.iterdir()} == {path.name for path in index.iterdir()} - {
            "shard",
            "faiss",
        } | {"rows-1"}
        shutil.rmtree(killed)
    assert True in states, "none was killed before the rows changed places"
    assert False in states or isinstance(moments[0], float), "none was killed after they did"


def all_changes(place: Path, other: Path) -> int:
    whole = copied(place / "photos.tuwen", place / "whole.tuwen")
    changes = int(migrating(whole, other, 0))
    shutil.rmtree(whole)
    return changes


def test_kills(place: Path, other: Path, anew: dict) -> None:
    changes = all_changes(place, other)
    chance = random.Random(1)  # while rows are written, while they change places, while the old ones go
    kill_at(place, anew, [chance.randrange(1, changes - 12), chance.randrange(changes - 12, changes), changes], other)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_kill_at_every_change(place: Path, other: Path, anew: dict) -> None:
    kill_at(place, anew, [*range(1, all_changes(place, other) + 1)], other)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_kills_at_any_time(place: Path, other: Path, anew: dict) -> None:
    """While the engine writes, too."""
    begin = time.monotonic()
    all_changes(place, other)
    whole, chance = time.monotonic() - begin, random.Random(1)
    kill_at(place, anew, [whole * (0.4 + 0.6 * chance.random()) for _ in range(12)], other)
