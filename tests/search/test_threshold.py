from pathlib import Path

import pytest

from tuwen.errors import InvalidInput
from tuwen.index.calibration import CALIBRATION, Calibration, Threshold
from tuwen.search import threshold as module
from tuwen.search.query import RowId, Term
from tuwen.search.threshold import Auto


def auto_threshold(terms, index) -> Auto:
    return module.auto_threshold(terms, index, index.info(), index.calibration())


def threshold(value: float, rows: int = 15) -> Threshold:
    return Threshold(
        threshold=value, false_accept=0.1, false_reject=0.1, matching=9, unmatching=9, rows=rows, created="now"
    )


@pytest.fixture(autouse=True)
def unmeasured(filled):
    """Each test begins without thresholds."""
    yield
    (filled.folder / CALIBRATION).unlink(missing_ok=True)


@pytest.fixture
def calibrated(filled):
    info = filled.info()
    filled.calibrate(Calibration(fingerprint=info.fingerprint, text=threshold(0.3), image=threshold(0.8)))
    return filled


def test_each_kind_of_query_has_its_own(calibrated) -> None:
    row = next(iter(calibrated.list())).id
    assert auto_threshold([Term("red"), Term("blue", -1.0)], calibrated).min_score == 0.3
    for what in (Path("cat.jpg"), b"a file", RowId(row)):
        auto = auto_threshold([Term(what)], calibrated)
        assert (auto.min_score, auto.doubt) == (0.8, "")


def test_mixed_scales_have_none(calibrated) -> None:
    with pytest.raises(InvalidInput) as raised:
        auto_threshold([Term("red"), Term(Path("cat.jpg"))], calibrated)
    assert raised.value.value == "red + cat.jpg"


def test_an_index_that_was_not_measured_has_none(filled) -> None:
    info = filled.info()
    with pytest.raises(InvalidInput) as raised:
        auto_threshold([Term("red")], filled)
    assert (raised.value.value, raised.value.where) == ("text", info.index)
    assert "tuwen calibrate" in raised.value.hint
    filled.calibrate(Calibration(fingerprint=info.fingerprint, text=threshold(0.3)))
    with pytest.raises(InvalidInput) as raised:
        auto_threshold([Term(Path("cat.jpg"))], filled)
    assert raised.value.value == "image"


def test_thresholds_of_another_model_do_not_count(filled) -> None:
    filled.calibrate(Calibration(fingerprint="other", text=threshold(0.3)))
    with pytest.raises(InvalidInput) as raised:
        auto_threshold([Term("red")], filled)
    assert raised.value.value == "text"


@pytest.mark.parametrize(("rows", "doubted"), [(7, True), (8, False), (15, False), (30, False), (31, True)])
def test_an_index_that_has_changed_much_is_doubted(filled, rows: int, doubted: bool) -> None:
    fingerprint = filled.info().fingerprint
    filled.calibrate(Calibration(fingerprint=fingerprint, text=threshold(0.3, rows)))
    doubt = auto_threshold([Term("red")], filled).doubt
    assert bool(doubt) == doubted
