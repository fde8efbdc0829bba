from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samples_of import jpeg, read_all
from tuwen.data.files import Skipped
from tuwen.data.parquet import RowGroups, batch_size, list_parquet, read_rows
from tuwen.data.samples import Columns, Listed, Sample
from tuwen.errors import InvalidInput
from tuwen.types import Rejected

ANY = Columns()


def write(path: Path, columns: dict[str, list], group: int = 7) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def test_pictures_as_bytes(tmp_path: Path) -> None:
    count = 200
    columns = {
        "key": [f"{i:09}" for i in range(count)],
        "jpg": [jpeg(i % 200) for i in range(count)],
        "caption": [f"c{i}" for i in range(count)],
        "width": list(range(count)),
    }
    path = write(tmp_path / "0.parquet", columns, group=70)
    found = [item for item in list_parquet(path, "0/", ANY) if isinstance(item, Listed)]
    samples = read_all(found)
    assert [sample.key for sample in samples] == [f"0/{i:09}" for i in range(count)]
    assert [sample.image for sample in samples] == columns["jpg"]
    assert samples[150].captions == ("c150",)
    assert samples[150].extra == {"key": "000000150", "width": 150}
    assert read_all(found[::9]) == samples[::9]
    assert read_all(islice(found, 130, 150)) == samples[130:150]


def test_rows_that_img2dataset_could_not_fetch_are_skipped(tmp_path: Path) -> None:
    status = ["success", "failed_to_download", "failed_to_resize", "success"]
    columns = {"key": list("abcd"), "jpg": [jpeg(1), None, None, jpeg(2)], "status": status}
    found = list(list_parquet(write(tmp_path / "0.parquet", columns), "", ANY))
    assert [item.key for item in found if isinstance(item, Listed)] == ["a", "d"]
    assert sum(isinstance(item, Skipped) for item in found) == 2
    samples = read_all(item for item in found if isinstance(item, Listed))
    assert [(s.image, s.extra["status"]) for s in samples] == [(jpeg(1), "success"), (jpeg(2), "success")]


def test_pictures_as_hugging_face_has_them(tmp_path: Path) -> None:
    pictures = [{"bytes": jpeg(i), "path": f"{i}.jpg"} for i in range(3)]
    path = write(tmp_path / "0.parquet", {"image": pictures, "text": [["a", "b"], ["c"], []]})
    samples = read_all(list_parquet(path, "", ANY))
    assert [(s.key, s.place, s.captions) for s in samples] == [
        ("0", "0.jpg", ("a", "b")),
        ("1", "1.jpg", ("c",)),
        ("2", "2.jpg", ()),
    ]


def test_pictures_as_paths_and_texts_alone(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(5))
    (sample,) = read_all(list_parquet(write(tmp_path / "0.parquet", {"path": ["x.jpg"], "text": ["a"]}), "", ANY))
    assert (sample.key, sample.image, sample.captions) == ("x.jpg", jpeg(5), ("a",))
    (text,) = read_all(list_parquet(write(tmp_path / "1.parquet", {"text": ["a"]}), "", ANY))
    assert (text.key, text.image, text.captions) == ("0", None, ("a",))


def test_an_empty_key_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "0.parquet", {"key": ["", "", None], "caption": ["a", "b", "c"]})
    assert [item.key for item in list_parquet(path, "", Columns()) if isinstance(item, Listed)] == ["0", "1", "2"]


def test_texts_stored_as_bytes_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(5))
    table = {"path": [b"x.jpg", b"x.jpg"], "id": ["a", "b"], "text": ["\u72d7".encode(), b"caf\xe9"]}
    good, bad = read_all(list_parquet(write(tmp_path / "0.parquet", table), "", ANY))
    assert (good.captions, good.image) == (("\u72d7",), jpeg(5))
    assert isinstance(bad, Rejected)


def test_missing_captions_are_none(tmp_path: Path) -> None:
    table = {"jpg": [jpeg(1)] * 3, "caption": [["a", None, " "], None, []]}
    found = read_all(list_parquet(write(tmp_path / "0.parquet", table), "", ANY))
    assert [sample.captions for sample in found] == [("a",), (), ()]
    numbers = {"jpg": [jpeg(1)], "caption": [float("nan")]}
    (sample,) = read_all(list_parquet(write(tmp_path / "1.parquet", numbers), "", ANY))
    assert sample.captions == ()


def test_what_cannot_be_read_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "0.parquet", {"key": ["a", "a", "b"], "jpg": [jpeg(1), jpeg(2), None]})
    found = list(list_parquet(path, "", ANY))
    assert [item.path for item in found if isinstance(item, Rejected)] == [f"{path}:1"]
    assert [item.path for item in read_all(found) if isinstance(item, Rejected)] == ["b"]
    write(path, {"key": ["a"], "jpg": [jpeg(1)]})
    assert isinstance(read_all(found)[0], Rejected)
    with pytest.raises(InvalidInput) as raised:
        list(list_parquet(write(tmp_path / "1.parquet", {"a": [1]}), "", ANY))
    assert raised.value.where == tmp_path / "1.parquet"
    (tmp_path / "2.parquet").write_bytes(b"PAR1 no")
    assert [type(item) for item in list_parquet(tmp_path / "2.parquet", "", ANY)] == [Rejected]


COUNT = 40


def write_groups(path: Path, count: int = COUNT, group: int = 7) -> Path:
    rows = {"jpg": [bytes([n]) * 1000 for n in range(count)], "caption": [f"{n}" for n in range(count)]}
    pq.write_table(pa.table(rows), path, row_group_size=group)
    return path


def listed(path: Path) -> list[Listed]:
    return [item for item in list_parquet(path, "", Columns()) if isinstance(item, Listed)]


@pytest.mark.parametrize("most_bytes", [1, 2**30])
def test_rows_in_any_order_by_many_threads_are_those_read_in_passing(tmp_path: Path, most_bytes: int) -> None:
    rows = [*listed(write_groups(tmp_path / "a.parquet")), *listed(write_groups(tmp_path / "b.parquet", 9, 2))]
    expected = list(read_rows(rows))
    mixed = Random(1).sample(range(len(rows)), len(rows))
    groups = RowGroups(most_bytes)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: groups.read(rows[number], rows[number].row), mixed))
    assert found == [expected[number] for number in mixed]
    assert all(isinstance(sample, Sample) for sample in found)


def test_only_so_much_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = listed(write_groups(tmp_path / "a.parquet"))
    opened = []
    reader = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda file, number, **how: opened.append(number) or reader(file, number, **how),
    )
    groups = RowGroups(most_bytes=2 * 7 * 1100)
    for number in (0, 6, 7, 1, 20, 0, 8):  # groups 0 0 1 0 2 0 1: the third puts the least recent, 1, out
        groups.read(rows[number], rows[number].row)
    assert opened == [0, 1, 2, 1]


def test_a_file_that_has_changed_or_gone_is_told(tmp_path: Path) -> None:
    rows = listed(write_groups(tmp_path / "a.parquet"))
    write_groups(tmp_path / "a.parquet", 3)
    found = RowGroups().read(rows[5], rows[5].row)
    assert isinstance(found, Rejected)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert isinstance(RowGroups().read(rows[5], rows[5].row), Rejected)
    (tmp_path / "a.parquet").unlink()
    assert isinstance(RowGroups().read(rows[5], rows[5].row), Rejected)


@pytest.mark.parametrize(("size", "rows"), [(10, 64), (2**20, 3), (2**23, 1)])
def test_large_rows_are_read_few_at_a_time(tmp_path: Path, size: int, rows: int) -> None:
    contents = [Random(number).randbytes(size) for number in range(5)]
    table = pa.table({"key": [str(number) for number in range(5)], "jpg": contents})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert (batch_size(metadata, ["key"]), batch_size(metadata, ["key", "jpg"])) == (64, rows)
    samples = list(read_rows(list_parquet(tmp_path / "a.parquet", "", Columns())))
    assert [sample.image for sample in samples] == contents
