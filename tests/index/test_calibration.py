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
    ("old", "new", "message"),
    [
        ('"rows": 7', '"rows": "seven"', "text.rows: Input should be a valid integer"),
        ('"format": 1', '"format": 2', "format: "),
        ('"rows": 7', '"rows": 7, "more": 1', "text.more: Extra inputs"),
        ('{\n  "format"', '\n  "format"', "the whole: Invalid JSON"),
    ],
)
def test_a_file_that_is_not_ours_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_calibration(tmp_path, MEASURED)
    file = tmp_path / CALIBRATION
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(IndexInvalid, match=message) as raised:
        read_calibration(tmp_path, "f00d")
    assert str(raised.value).endswith("tuwen calibrate writes it anew")
