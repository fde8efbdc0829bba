"""Indexes that cannot be written to, as on a read-only mount: they are searched, and nothing else."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from making import FakeModel, paths, rows

import tuwen
from conftest import copied
from tuwen.errors import IndexFault, IndexLocked
from tuwen.index.index import VectorIndex
from tuwen.index.storage import COPY, private_copy

MADE = rows(400)
MOUNT = "mount --bind {0} {0} && mount -o remount,ro,bind {0} && exec {1}"


@pytest.fixture(params=["qdrant-edge", "faiss"])
def filled(request: pytest.FixtureRequest, place: Path) -> Path:
    """An index with rows in its graph or file, rows beside them, and a row that was removed."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
    folder = place / "photos.tuwen"
    with VectorIndex.create(folder, encoder=FakeModel(), store=request.param) as index:
        index.upsert(MADE[:300])
        index.optimize()
        index.upsert(MADE[300:])
        index.remove([MADE[0].key])
    return folder


def check(folder: Path) -> None:
    """Search an index that is read-only, and try to change it."""
    with VectorIndex.open(folder, encoder=FakeModel()) as index, VectorIndex.open(folder, encoder=None) as second:
        for row in (MADE[1], MADE[299], MADE[399]):
            assert paths(index.search(row.vector, k=1)) == [row.key] == paths(second.search(row.vector, k=1))
        assert index.info().rows == len(index.keys()) == 399
        assert index.search(MADE[1].vector, k=400, where="width < 110") == second.search(
            MADE[1].vector, k=400, where="width < 110", exact=True
        )
        for change in (
            lambda: index.upsert(MADE[:1]),
            lambda: index.remove([MADE[1].key]),
            lambda: index.update_payloads({MADE[1].key: MADE[1].payload}),
            index.optimize,
        ):
            with pytest.raises(IndexFault) as caught:
                change()
            assert caught.value.where == folder


def test_on_a_read_only_mount(filled: Path, tmp_path: Path) -> None:
    script = f"from test_read_only import check; from pathlib import Path; check(Path({str(filled)!r}))"
    command = MOUNT.format(shlex.quote(str(filled)), shlex.join([sys.executable, "-c", script]))
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if subprocess.run([*namespace, MOUNT.format(tmp_path, "true")], check=False, capture_output=True).returncode:
        pytest.skip("read-only mounts cannot be made here")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}
    done = subprocess.run([*namespace, command], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(temporary.glob("tuwen-*")) == []
    with VectorIndex.open(filled, encoder=FakeModel()) as index:
        assert index.upsert(MADE[:1]) is None


def test_where_access_is_denied(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for another user, whom root is not asked to be."""
    monkeypatch.setattr("tuwen.index.index.is_read_only", lambda _: True)
    check(filled)


def test_readers_and_a_writer_keep_each_other_out(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = [True, False, False, True]
    monkeypatch.setattr("tuwen.index.index.is_read_only", lambda _: reading.pop(0))
    with VectorIndex.open(filled, encoder=None), pytest.raises(IndexLocked):
        VectorIndex.open(filled, encoder=None, lock_timeout=0)
    with VectorIndex.open(filled, encoder=None), pytest.raises(IndexLocked):
        VectorIndex.open(filled, encoder=None, lock_timeout=0)


def test_a_copy_has_the_same_bytes_and_holes(filled: Path, tmp_path: Path) -> None:
    copy = private_copy(copied(filled, tmp_path / "copied"))
    for path in filter(Path.is_file, filled.rglob("*")):
        assert (copy.folder / path.relative_to(filled)).read_bytes() == path.read_bytes()
    assert sum(path.stat().st_blocks for path in copy.folder.rglob("*")) * 512 < 16 * 2**20
    copy.delete()
    assert not copy.folder.exists()


COPYING = "import sys, time; from pathlib import Path; from tuwen.index.storage import COPY, private_copy\n"
COPYING += "copy = private_copy(Path(sys.argv[1])); print(copy.folder, flush=True); time.sleep(600)"


def test_the_copy_of_a_killed_process_is_deleted(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next process that makes one; the copy of one that runs is left alone, and so is a link in its place."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(tuwen.__file__).parents[1])}
    words = [sys.executable, "-c", COPYING, str(filled)]
    killed, running = (subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2))
    assert killed.stdout is not None
    assert running.stdout is not None
    left, used = (Path(it.readline().strip()) for it in (killed.stdout, running.stdout))
    other = tmp_path / "other"
    other.mkdir()
    link = tmp_path / f"{COPY}link"
    link.symlink_to(other)
    try:
        killed.kill()
        killed.wait()
        copy = private_copy(filled)
        assert {*tmp_path.glob(f"{COPY}*")} == {used, copy.folder, link}
        assert not any(other.iterdir())
        copy.delete()
    finally:
        running.kill()
        running.communicate()
        killed.communicate()
    assert not left.exists()
