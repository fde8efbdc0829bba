from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pyarrow
import pyarrow.parquet
import pytest

from tuwen.data.parquet import RowGroups, list_parquet, read_rows
from tuwen.data.samples import Listed, Sample
from tuwen.data.tables import Columns
from tuwen.types import Rejected

COUNT = 40


def write(path: Path, count: int = COUNT, group: int = 7) -> Path:
    rows = {"jpg": [bytes([n]) * 1000 for n in range(count)], "caption": [f"{n}" for n in range(count)]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path, row_group_size=group)
    return path


def listed(path: Path) -> list[Listed]:
    return [item for item in list_parquet(path, "", Columns()) if isinstance(item, Listed)]


@pytest.mark.parametrize("most_bytes", [1, 2**30])
def test_rows_in_any_order_by_many_threads_are_those_read_in_passing(tmp_path: Path, most_bytes: int) -> None:
    rows = [*listed(write(tmp_path / "a.parquet")), *listed(write(tmp_path / "b.parquet", 9, 2))]
    expected = list(read_rows(rows))
    mixed = Random(1).sample(range(len(rows)), len(rows))
    groups = RowGroups(most_bytes)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: groups.read(rows[number], rows[number].row), mixed))
    assert found == [expected[number] for number in mixed]
    assert all(isinstance(sample, Sample) for sample in found)


def test_only_so_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = listed(write(tmp_path / "a.parquet"))
    opened = []
    reader = pyarrow.parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile,
        "read_row_group",
        lambda file, number, **how: opened.append(number) or reader(file, number, **how),
    )
    groups = RowGroups(most_bytes=2 * 7 * 1100)
    for number in (0, 6, 7, 1, 20, 0, 8):  # groups 0 0 1 0 2 0 1: the third puts the least recent, 1, out
        groups.read(rows[number], rows[number].row)
    assert opened == [0, 1, 2, 1]


def test_a_file_that_has_changed_or_gone_is_told(tmp_path: Path) -> None:
    rows = listed(write(tmp_path / "a.parquet"))
    write(tmp_path / "a.parquet", 3)
    found = RowGroups().read(rows[5], rows[5].row)
    assert isinstance(found, Rejected)
    assert "it has changed since it was listed" in found.reason
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert isinstance(RowGroups().read(rows[5], rows[5].row), Rejected)
    (tmp_path / "a.parquet").unlink()
    assert isinstance(RowGroups().read(rows[5], rows[5].row), Rejected)
