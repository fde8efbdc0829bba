"""Shards on many machines: a Ray cluster, each of whose workers holds the model and embeds a shard at a time.

A shard whose worker or machine dies is given to another. Results come back to this process, which alone writes: the
machines must see the sources under the same paths, but need not share the output. Knows Ray. Does not know what a
shard is written as.
"""

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tuwen.bulk.embedding import Embedded, Shard, Wanted, embed
from tuwen.data.pillow_warnings import silence_libtiff
from tuwen.data.samples import Listed
from tuwen.errors import InvalidInput, TuwenError, WrongModel, require
from tuwen.runtime.loading import load_encoder
from tuwen.runtime.selection import Choice

if TYPE_CHECKING:
    from tuwen.bulk.embed import Engine
    from tuwen.runtime.encoder import Encoder

ATTEMPTS = 5
"""how often a shard is tried before it is taken to be what kills its workers"""
PATIENCE = 20.0
"""seconds that a new worker may take to start, at the least"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What every worker must be: the model, and how it computes.

    Attributes:
        model: a bundle's folder or a model's name, the same on every machine.
        fingerprint: what that model must be.
        choice: runtime, device, precision and threads: none of them `auto`, so that all machines compute the same.
        models: where pulled models are kept.
        cache: where compiled models are kept.
        max_pixels: see `Reading`.
        exact_decode: see `Reading`.
    """

    model: str
    fingerprint: str
    choice: Choice
    models: Path
    cache: Path | None
    max_pixels: int
    exact_decode: bool

    @property
    def threads(self) -> int:
        """Cores of a worker."""
        assert self.choice.threads is not None, "a recipe says how many threads"
        return self.choice.threads


class Worker:
    """A process of the cluster. The model is loaded for the first shard."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._encoder: Encoder | None = None

    def embed(self, number: int, lines: list[str], wanted: Wanted) -> Embedded:
        """Embed one shard, as it would be embedded anywhere."""
        shard = Shard(number, map(Listed.of_line, lines))
        events = embed([shard], wanted, self._loaded())
        return next(event for event in events if isinstance(event, Embedded))

    def _loaded(self) -> "Encoder":
        if self._encoder is None:
            recipe = self._recipe
            silence_libtiff()
            self._encoder = load_encoder(
                recipe.model,
                recipe.choice,
                models=recipe.models,
                cache=recipe.cache,
                max_pixels=recipe.max_pixels,
                exact_decode=recipe.exact_decode,
            )
            if self._encoder.fingerprint != recipe.fingerprint:
                raise WrongModel(
                    f"{recipe.model} on {platform.node()} is the model {self._encoder.fingerprint}, not "
                    f"{recipe.fingerprint}: put the same bundle on every machine"
                )
        return self._encoder


@contextmanager
def on_cluster(address: str, recipe: Recipe, workers: int | None) -> "Iterator[Engine]":
    """An engine that computes on a Ray cluster, which is left, or ended if it was begun here, with the block.

    Args:
        address: `auto` for the cluster that this machine is part of, `local` for one that is begun here,
            `ray://host:10001` or `host:6379` for another.
        recipe: what a worker is.
        workers: how many; None: as many as the cluster's cores are enough for.

    Raises:
        TuwenError: there is no cluster at that address.
        InvalidInput: no machine of it has the cores that a worker takes.
    """
    ray = _connected(address, recipe.threads)
    try:
        yield _Cluster(ray, recipe, workers or _fitting(ray, recipe))
    finally:
        ray.shutdown()


@dataclass(slots=True)
class _Task:
    """A shard that is on its way, as lines; how often it was tried, and since when it is tried now."""

    number: int
    lines: list[str]
    attempts: int = 0
    since: float = 0.0


class _Cluster:
    """An `Engine`: hands shards to idle workers, and takes back what dead ones have not done."""

    def __init__(self, ray: ModuleType, recipe: Recipe, workers: int) -> None:
        self._ray = ray
        self._recipe = recipe
        self._idle: list[Any] = [None] * workers  # None: to be started, when there is work for it
        self._running: dict[Any, tuple[_Task, Any]] = {}
        self._proven: set[Any] = set()  # workers that have done a shard
        self._longest = PATIENCE

    def __call__(self, shards: Iterable[Shard], wanted: Wanted) -> Iterator[int | Embedded]:
        new = (_Task(shard.number, [item.line() for item in shard.listed]) for shard in shards)
        again: deque[_Task] = deque()
        while True:
            while self._idle and (task := again.popleft() if again else next(new, None)):
                self._hand_out(task, wanted)
            if not self._running:
                return
            ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=PATIENCE / 4)
            for reference in ended:
                task, worker = self._running.pop(reference)
                result = self._result(reference, task)
                self._idle.append(None if result is None else worker)
                if result is None:
                    again.append(task)
                    continue
                self._proven.add(worker)
                self._longest = max(self._longest, monotonic() - task.since)
                yield len(task.lines)
                yield result
            again.extend(self._taken_back())

    def _hand_out(self, task: _Task, wanted: Wanted) -> None:
        """Give a shard to a worker, rather to one that has done some."""
        self._idle.sort(key=lambda worker: worker in self._proven)
        worker = self._idle.pop() or self._started()
        task.since = monotonic()
        self._running[worker.embed.remote(task.number, task.lines, wanted)] = (task, worker)

    def _taken_back(self) -> list[_Task]:
        """Shards of workers that have never done one and that there may be no room for, while others are idle.

        Raises:
            TuwenError: no machine is left.
        """
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise TuwenError("no machine of the cluster is left: when there is one, the same command goes on")
        if not any(worker in self._proven for worker in self._idle):
            return []
        late = [
            reference
            for reference, (task, worker) in self._running.items()
            if worker not in self._proven and monotonic() - task.since > 2 * self._longest
        ]
        tasks = []
        for reference in late:
            task, worker = self._running.pop(reference)
            self._ray.kill(worker)
            tasks.append(task)
        return tasks

    def _started(self) -> Any:  # noqa: ANN401  (an actor handle, which Ray makes)
        gpus = 0 if self._recipe.choice.device.startswith(("cpu", "openvino")) else 1
        kind = self._ray.remote(num_cpus=self._recipe.threads, num_gpus=gpus)(Worker)
        return kind.remote(self._recipe)

    def _result(self, reference: Any, task: _Task) -> Embedded | None:  # noqa: ANN401  (an object reference)
        """What a worker made of a shard; None if it died over it.

        Raises:
            TuwenError: what the worker raised, or that the shard kills every worker.
        """
        errors = self._ray.exceptions
        try:
            result: Embedded = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause if isinstance(error.cause, TuwenError) else error from None
        except (errors.RayActorError, errors.RaySystemError, errors.ObjectLostError) as error:
            task.attempts += 1
            if task.attempts < ATTEMPTS:
                return None
            raise TuwenError(
                f"shard {task.number} has ended {ATTEMPTS} workers, the last one so: {str(error).splitlines()[0]}; "
                "see what its samples have in common, in OUT/embedding/plan"
            ) from error
        return result


def _connected(address: str, threads: int) -> ModuleType:
    """Ray, connected. Its usage statistics are off, and nothing of it prints here."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # read at import: listen on loopback alone
    ray = require("ray", extra="ray")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address == "local":
            with _nothing_leaves():
                cores = max(threads, os.cpu_count() or 1)
                ray.init(address=address, num_cpus=cores, include_dashboard=False, **quiet)
        else:
            _see_that_it_answers(address)
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ImportError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise TuwenError(
            f"there is no Ray cluster at {address} ({said}): ray start --head begins one, or say --address local"
        ) from error
    return ray


def _see_that_it_answers(address: str) -> None:
    """Where nobody listens, Ray would try for minutes; `auto` may be the address of a cluster that was killed.

    Raises:
        OSError: nothing answers there, or there is no cluster to be found.
    """
    from ray._private.services import get_ray_address_from_environment  # its own search: no other finds the same

    found = get_ray_address_from_environment(address, None).removeprefix("ray://")
    host, _, port = found.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


@contextmanager
def _nothing_leaves() -> Iterator[None]:
    """The processes that are started meanwhile find no way out.

    Ray asks the clouds' metadata services where it is, even with usage statistics off. These requests go to a port
    of this machine where nobody listens.
    """
    wanted = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1,localhost,::1"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _fitting(ray: ModuleType, recipe: Recipe) -> int:
    """How many workers the cluster's machines have cores for."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    found = sum(number // recipe.threads for number in cores)
    if not found:
        raise InvalidInput(
            f"no machine of the cluster has {recipe.threads} cores (they have {cores}): say --threads {max(cores)}"
        )
    return found
