from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samples_of import jpeg, read_all, rejected
from tuwen.data.files import Skipped
from tuwen.data.parquet import list_parquet
from tuwen.data.samples import Listed
from tuwen.data.tables import Columns
from tuwen.errors import InvalidInput

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


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "0.parquet", {"key": ["a", "a", "b"], "jpg": [jpeg(1), jpeg(2), None]})
    found = list(list_parquet(path, "", ANY))
    assert rejected(found) == [f"{path}:1: has the key 'a' of an earlier row"]
    assert rejected(read_all(found)) == ["b: has no picture in the column jpg"]
    write(path, {"key": ["a"], "jpg": [jpeg(1)]})
    assert "has changed" in rejected(read_all(found))[0]
    with pytest.raises(InvalidInput, match="no column that is known"):
        list(list_parquet(write(tmp_path / "1.parquet", {"a": [1]}), "", ANY))
    (tmp_path / "2.parquet").write_bytes(b"PAR1 no")
    assert "cannot be read as Parquet" in rejected(list_parquet(tmp_path / "2.parquet", "", ANY))[0]
