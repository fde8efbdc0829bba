"""A disk that is full or nearly so: one error, no row lost, rows can be found and removed. Needs the right to mount."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import FakeModel, row, rows

from full_disk import fill
from tuwen.errors import DiskFull
from tuwen.index import space
from tuwen.index.index import VectorIndex


def stores(sizes: dict[str, int]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("store", "disk"), sizes.items(), indirect=["disk"], ids=list(sizes))


@stores({"qdrant-edge": 600, "faiss": 64})
def test_on_a_full_disk_rows_are_found_and_removed(disk: Path, store: str) -> None:
    if store == "faiss":
        pytest.importorskip("faiss")
    made = rows(200)
    with VectorIndex.create(disk / "i.tuwen", encoder=FakeModel(), store=store) as index:
        index.upsert(made)
    fill(disk)
    assert shutil.disk_usage(disk).free == 0
    with VectorIndex.open(disk / "i.tuwen", encoder=FakeModel()) as index:
        assert len(index.search(made[0].vector, k=5)) == 5
        with pytest.raises(DiskFull) as caught:
            index.upsert([row("new")])
        assert caught.value.where == disk / "i.tuwen"
        assert caught.value.value < 2 * space.RESERVED
        assert index.remove([it.key for it in made[:100]]) == 100
    for path in disk.glob("other*"):
        path.unlink()
    with VectorIndex.open(disk / "i.tuwen", encoder=FakeModel()) as index:
        assert sorted(index.keys()) == sorted(it.key for it in made[100:])
        index.upsert([row("new")])
        assert (disk / "i.tuwen" / space.RESERVE).stat().st_size == space.RESERVED


WRITING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from making import FakeModel, row
from tuwen.errors import DiskFull
from tuwen.index.index import VectorIndex
with VectorIndex.create(Path(sys.argv[1]), encoder=FakeModel(), store=sys.argv[2]) as index:
    for number in range(1_000_000):
        try:
            index.upsert([row(f"{number}-{at}", text="x" * 20_000) for at in range(100)])
        except DiskFull:
            print("full", flush=True)
            break
        print(number, flush=True)
"""


@stores({"qdrant-edge": 600, "faiss": 64})
def test_writing_until_the_disk_is_full_ends_in_one_error_and_loses_nothing(disk: Path, store: str) -> None:
    if store == "faiss":
        pytest.importorskip("faiss")
    fill(disk, leave=(450 if store == "qdrant-edge" else 40) * 2**20)
    command = [sys.executable, "-c", WRITING, disk / "i.tuwen", store, Path(__file__).parent]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
    *written, last = done.stdout.split()
    assert last == "full"
    assert written
    with VectorIndex.open(disk / "i.tuwen", encoder=None) as index:
        assert index.count() == 100 * len(written)


def test_a_disk_that_is_too_small_for_an_index_is_refused(disk: Path) -> None:
    with pytest.raises(DiskFull) as caught:
        VectorIndex.create(disk / "i.tuwen", encoder=FakeModel())
    assert f"{space.ROOM:,}" in str(caught.value)
    assert caught.value.hint == space.TOO_SMALL
    assert caught.value.where == disk / "i.tuwen"
    assert [path.name for path in disk.iterdir() if path.name != "lost+found"] == []


def test_scarce_space_is_reserved(disk: Path) -> None:
    folder = disk / "index"
    folder.mkdir()
    with (folder / "mapped").open("wb") as file:
        file.write(b"kept")
        file.truncate(16 * 2**20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "ROOM", 2**20)
        space.check_space(folder, 1, mapped=True)
        fill(disk)
        state = (folder / "mapped").stat()
        assert state.st_blocks * 512 >= state.st_size
        mapped = np.memmap(folder / "mapped", mode="r+")
        assert bytes(mapped[:4]) == b"kept"
        mapped[:] = 1  # a hole would end the process
        mapped.flush()
