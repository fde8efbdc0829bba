from pathlib import Path

import pytest

from tuwen.errors import IndexInvalid
from tuwen.index.calibration import CALIBRATION, Calibration, Threshold, read_calibration, write_calibration

MEASURED = Calibration(
    fingerprint="f00d",
    text=Threshold(
        threshold=0.25,
        false_accept=0.05,
        false_reject=None,
        matching=0,
        unmatching=20,
        rows=7,
        created="2026-01-02T03:04:05+00:00",
    ),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_calibration(tmp_path, MEASURED)
    assert read_calibration(tmp_path, "f00d") == MEASURED
    assert [path.name for path in tmp_path.iterdir()] == [CALIBRATION]
    assert (tmp_path / CALIBRATION).stat().st_mode & 0o777 == 0o644


def test_another_model_has_none(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, "f00d") is None
    write_calibration(tmp_path, MEASURED)
    assert read_calibration(tmp_path, "beef") is None


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"rows": 7', '"rows": "seven"', "text.rows"),
        ('"format": 1', '"format": 2', "format"),
        ('"rows": 7', '"rows": 7, "more": 1', "text.more"),
        ('{\n  "format"', '\n  "format"', "the whole"),
    ],
)
def test_an_invalid_file_is_named_with_its_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    write_calibration(tmp_path, MEASURED)
    file = tmp_path / CALIBRATION
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(IndexInvalid) as raised:
        read_calibration(tmp_path, "f00d")
    assert (raised.value.value, raised.value.where) == (field, str(file))
    assert "tuwen calibrate" in raised.value.hint
