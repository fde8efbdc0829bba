from pathlib import Path

import pytest
import torch

from tuwen.errors import InvalidInput
from tuwen.training.checkpoint import Checkpoints


def shared(folder: Path) -> None:
    torch.save({"weights": torch.ones(2)}, folder / "training.pt")


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, best in ((1, None), (2, 2), (3, 2), (4, 2), (5, 2)):
        checkpoints.save(step, shared, {"place": step}, best)
    assert checkpoints.steps() == [2, 4, 5]
    assert (tmp_path / "best").resolve() == checkpoints.at(2)
    assert (tmp_path / "last").resolve() == checkpoints.at(5)
    assert checkpoints.load(4)[1] == {"place": 4}


def test_what_a_kill_left_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)

    def killed(folder: Path) -> None:
        shared(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(1, killed, {}, None)
    assert checkpoints.steps() == []
    checkpoints.save(1, shared, {}, None)
    assert checkpoints.steps() == [1]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-00000001"]


def test_another_number_of_processes_is_told(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    folder = checkpoints.save(1, shared, {}, None)
    torch.save({}, folder / "rank-1.pt")
    with pytest.raises(InvalidInput) as raised:
        checkpoints.load(1)
    assert (raised.value.value, raised.value.where) == (1, folder)
