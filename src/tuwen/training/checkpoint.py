"""The checkpoints of a run: written to a temporary folder and renamed; the last few and the best are kept.

    OUTPUT/checkpoints/step-00000100/   tuwen-training.json, tokenizer.json, weights.pt   for export
                                        training.pt                       the state that all processes share
                                        rank-0.pt, rank-1.pt, …           the state of each process
    OUTPUT/last, OUTPUT/best            links to two of them

On several machines, the folder must be on a shared file system.
"""

import random
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from tuwen.bundle.files import sync
from tuwen.errors import InvalidInput
from tuwen.training.distributed import barrier, rank, world

SHARED, BEST = "training.pt", "best"
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints in a run's folder.

    Attributes:
        output: the run's folder.
        keep: number of last checkpoints to keep.
    """

    output: Path
    keep: int

    @property
    def folder(self) -> Path:
        """Their folder."""
        return self.output / "checkpoints"

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in order."""
        found = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*"))
        return sorted(int(match[1]) for match in found if match)

    def at(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step-{step:08}"

    def save(self, step: int, write_shared: Callable[[Path], None], own: Mapping[str, Any], best: int | None) -> Path:
        """Write a checkpoint and delete those that are no longer kept; every process must call it.

        Args:
            step: number of steps taken.
            write_shared: writes the shared state into a folder; called in the first process only.
            own: the state of this process.
            best: the step of the best checkpoint; None: this one.
        """
        aside = self.folder / f".{self.at(step).name}"
        if rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            write_shared(aside)
        barrier()
        torch.save(dict(own), aside / f"rank-{rank()}.pt")
        sync(aside / f"rank-{rank()}.pt")
        barrier()
        if rank() == 0:
            self._publish(aside, step, best)
        barrier()
        return self.at(step)

    def load(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the shared state and that of this process.

        Raises:
            InvalidInput: the run had another number of processes.
        """
        folder = self.at(step)
        count = len(list(folder.glob("rank-*.pt")))
        if count != world():
            raise InvalidInput(
                f"{folder} was written by {count} processes, but now there are {world()}: resume with {count}",
                value=world(),
                where=folder,
                hint=f"resume with {count} processes",
            )
        return _read(folder / SHARED), _read(folder / f"rank-{rank()}.pt")

    def _publish(self, aside: Path, step: int, best: int | None) -> None:
        for path in aside.iterdir():
            sync(path)
        target = self.at(step)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
        sync(self.folder)
        kept = {*self.steps()[-self.keep :], step if best is None else best}
        _point(self.output / "last", target)
        _point(self.output / BEST, self.at(step if best is None else best))
        for other in set(self.steps()) - kept:
            shutil.rmtree(self.at(other))


def _read(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _point(link: Path, target: Path) -> None:
    """Point a link to another folder, atomically."""
    aside = link.with_name(f".{link.name}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.relative_to(link.parent), target_is_directory=True)
    aside.replace(link)


@dataclass(frozen=True, slots=True)
class RandomState:
    """The states of torch's random generators, of the CPU and of the training device."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> Self:
        """The current states."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)

    def restore(self) -> None:
        """Restore the states."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


def everything(device: torch.device) -> dict[str, Any]:
    """The states of all random generators, in types that `torch.load(weights_only=True)` reads."""
    torch_state = RandomState.now(device)
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  (other code may use it)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).copy()), place, has_gauss, gauss],
        "cpu": torch_state.cpu,
        "cuda": torch_state.cuda,
    }


def restore(states: dict[str, Any]) -> None:
    """Restore the result of `everything`."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))  # noqa: NPY002
    RandomState(states["cpu"], states["cuda"]).restore()


def seed(number: int) -> None:
    """Seed all random generators."""
    random.seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002
    torch.manual_seed(number)
