from pathlib import Path

import pytest

from tuwen.bundle.files import recall, remember


@pytest.mark.parametrize("value", [True, [1, "two"], {"a": None}, "一只狗"])
def test_what_is_remembered_is_recalled(tmp_path: Path, value: object) -> None:
    entry = tmp_path / "deep" / "entry.json"
    assert recall(entry) is None
    remember(entry, value)
    assert recall(entry) == value
    assert list(entry.parent.iterdir()) == [entry], "nothing half written stays"


def test_nothing_is_raised_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remember(tmp_path / "file" / "entry.json", 1)
    assert recall(tmp_path / "file" / "entry.json") is None
