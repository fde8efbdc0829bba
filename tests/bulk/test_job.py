import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tuwen.bulk.job import Outcome, begun, check_free
from tuwen.data.files import Skipped
from tuwen.data.samples import Listed
from tuwen.errors import InvalidInput, TuwenError
from tuwen.types import Rejected

FACTS = {"model": "m", "fingerprint": "f", "precision": "fp32", "dim": 8, "layout": "npy"}
INPUT = [
    *(Listed(str(i), captions=("x",)) for i in range(7)),
    Skipped(Path("s")),
    Skipped(Path("@eaDir"), excluded="system folder"),
    Rejected("r", "why"),
]


def outcome(samples: int, *rejected: Rejected) -> Outcome:
    return Outcome(samples, samples - len(rejected), 0, samples, 0, 0, rejected)


def test_a_job_is_planned_done_and_reported(tmp_path: Path) -> None:
    with begun(tmp_path / "out", FACTS, INPUT, 3) as job:
        assert (job.shards, job.done()) == (3, set())
        assert [item.key for item in job.listed(2)] == ["6"]
        job.commit(0, {"a/0.npy": b"0"}, outcome(3))
        job.commit(2, {"a/2.npy": b"2"}, outcome(1, Rejected("x", "bad")))
        assert job.done() == {0, 2}
    with begun(tmp_path / "out", FACTS, INPUT, 3) as job:
        assert job.done() == {0, 2}
        job.commit(1, {"a/1.npy": b"1"}, outcome(3))
        report = job.finish()
    assert report.rejected == (Rejected("r", "why"), Rejected("x", "bad"))
    assert (report.samples, report.embedded, report.skipped) == (7, 6, 2)
    assert report.unused == ("s",)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == {**asdict(report), "rejected": 2, "unused": 1}
    assert (tmp_path / "out" / "unused.jsonl").read_text() == '"s"\n'
    lines = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(item) for item in report.rejected]
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == ["0.npy", "1.npy", "2.npy"]


def test_a_job_that_an_earlier_version_began_is_finished(tmp_path: Path) -> None:
    with begun(tmp_path / "out", FACTS, INPUT, 3) as job:
        (tmp_path / "out" / "embedding" / "plan" / "unused.jsonl").unlink()
        for shard, samples in enumerate((3, 3, 1)):
            job.commit(shard, {}, outcome(samples))
        report = job.finish()
    assert report.unused == ()
    assert (report.embedded, report.skipped) == (7, 2)


@pytest.mark.parametrize(
    ("facts", "listed", "size", "where"),
    [
        ({**FACTS, "fingerprint": "g"}, INPUT, 3, "fingerprint"),
        (FACTS, INPUT[1:], 3, "samples"),
        (FACTS, [*INPUT[:-1], Rejected("q", "why")], 3, "input"),
        (FACTS, INPUT, 4, "shard_size"),
    ],
)
def test_another_job_in_its_folder_is_refused(tmp_path: Path, facts, listed, size: int, where: str) -> None:
    with begun(tmp_path, FACTS, INPUT, 3) as job:
        job.commit(0, {}, outcome(3))
    with pytest.raises(InvalidInput) as raised, begun(tmp_path, facts, listed, size):
        pass
    assert raised.value.where == where
    with begun(tmp_path, FACTS, INPUT, 3) as job:
        assert job.done() == {0}


def test_a_job_of_which_nothing_is_written_gives_way(tmp_path: Path) -> None:
    with begun(tmp_path, FACTS, INPUT, 3):
        pass
    with begun(tmp_path, FACTS, INPUT[1:], 2) as job:
        assert job.shards == 3


def test_where_rows_are_added_a_job_follows_one_that_is_through(tmp_path: Path) -> None:
    with begun(tmp_path, FACTS, INPUT, 4, adds=True) as job:
        job.commit(0, {}, outcome(4))
    with (
        pytest.raises(InvalidInput) as raised,
        begun(tmp_path, FACTS, INPUT[1:], 4, adds=True),
    ):
        pass
    assert str(tmp_path / "embedding") in raised.value.hint
    with begun(tmp_path, FACTS, INPUT, 4, adds=True) as job:
        job.commit(1, {}, outcome(3))
    with begun(tmp_path, FACTS, INPUT, 4, adds=True) as job:
        assert job.done() == {0, 1}, "the same job once more"
    with begun(tmp_path, {**FACTS, "precision": "int8"}, INPUT[1:], 2, adds=True) as job:
        assert (job.shards, job.done()) == (3, set())
        job.commit(2, {}, outcome(2))
    with begun(tmp_path, {**FACTS, "precision": "int8"}, INPUT[1:], 2, adds=True) as job:
        assert job.done() == {2}


def test_what_kills_left_behind_is_cleared(tmp_path: Path) -> None:
    with begun(tmp_path, FACTS, INPUT, 3):
        pass
    for name in ("plan", "000001"):
        (tmp_path / "embedding" / f".new-{name}").mkdir()
        (tmp_path / "embedding" / f".new-{name}" / "x").touch()
    with begun(tmp_path, FACTS, INPUT, 3):
        assert list((tmp_path / "embedding").glob(".new-*")) == []


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        begun(tmp_path, FACTS, INPUT, 3),
        pytest.raises(TuwenError) as raised,
        begun(tmp_path, FACTS, INPUT, 3),
    ):
        pass
    assert raised.value.value == tmp_path


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    check_free(tmp_path / "new")
    check_free(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(InvalidInput) as raised:
            check_free(path)
        assert raised.value.value == path
