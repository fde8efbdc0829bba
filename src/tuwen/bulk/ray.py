"""Embeds shards on a Ray cluster: each worker holds the model and embeds one shard at a time.

If a worker or its machine dies, its shard goes to another. Results return to this process, which alone writes them:
all machines need the sources under the same paths, but not the output.
"""

import logging
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tuwen.bulk.embedding import Embedded, Engine, Shard, Wanted, embed
from tuwen.bulk.recipe import Recipe
from tuwen.data.samples import Listed
from tuwen.errors import InvalidInput, TuwenError, require

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder

ATTEMPTS = 5
"""attempts per shard before it is assumed that the shard itself kills the workers"""
PATIENCE = 20.0
"""minimum time to allow a new worker to start, in seconds"""


class Worker:
    """A worker process of the cluster. It loads the model for its first shard."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._encoder: Encoder | None = None

    def embed(self, number: int, lines: list[str], wanted: Wanted) -> Embedded:
        """Embed one shard."""
        shard = Shard(number, map(Listed.of_line, lines))
        if self._encoder is None:
            self._encoder = self._recipe.load()
        events = embed([shard], wanted, self._encoder)
        return next(event for event in events if isinstance(event, Embedded))


@contextmanager
def on_cluster(address: str, recipe: Recipe, workers: int | None) -> Iterator[Engine]:
    """An engine that computes on a Ray cluster. At the end of the block it disconnects, and stops a local cluster.

    Args:
        address: `auto` for the cluster that this machine is part of, `local` to start one on this machine,
            `ray://host:10001` or `host:6379` for another.
        recipe: how a worker loads the model.
        workers: their number; None: as many as the cluster has cores for.

    Raises:
        TuwenError: there is no cluster at that address.
        InvalidInput: no machine of the cluster has enough cores for a worker.
    """
    ray = _connected(address, recipe.threads)
    try:
        yield _Cluster(ray, recipe, workers or _fitting(ray, recipe))
    finally:
        ray.shutdown()


@dataclass(slots=True)
class _Task:
    """A shard that is being embedded: its lines, the attempts so far, and when the current one started."""

    number: int
    lines: list[str]
    attempts: int = 0
    since: float = 0.0


class _Cluster:
    """An `Engine` that hands shards to idle workers, and again if a worker dies."""

    def __init__(self, ray: ModuleType, recipe: Recipe, workers: int) -> None:
        self._ray = ray
        self._recipe = recipe
        self._idle: list[Any] = [None] * workers  # None: started when there is work for it
        self._running: dict[Any, tuple[_Task, Any]] = {}
        self._proven: set[Any] = set()  # workers that have completed a shard
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
        """Give a shard to an idle worker, preferably one that has completed some."""
        self._idle.sort(key=lambda worker: worker in self._proven)
        worker = self._idle.pop() or self._started()
        task.since = monotonic()
        self._running[worker.embed.remote(task.number, task.lines, wanted)] = (task, worker)

    def _taken_back(self) -> list[_Task]:
        """Take back shards from workers that have not started, perhaps for lack of cores, while others are idle.

        Raises:
            TuwenError: no machine of the cluster is alive.
        """
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise TuwenError("no machine of the cluster is alive: restart it, then repeat the command to resume")
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
        """A worker's result; None if it died.

        Raises:
            TuwenError: raised by the worker, or the shard has killed `ATTEMPTS` workers.
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
                f"shard {task.number} has killed {ATTEMPTS} workers, the last with: {str(error).splitlines()[0]}; "
                "its samples are listed in OUT/embedding/plan",
                value=task.number,
            ) from error
        return result


def _connected(address: str, threads: int) -> ModuleType:
    """Connect to a cluster, with Ray's usage statistics and its output in this process switched off."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # read at import: listen on loopback only
    ray = require("ray", extra="ray")
    silent = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        if address == "local":
            with _no_requests():
                cores = max(threads, os.cpu_count() or 1)
                ray.init(address=address, num_cpus=cores, include_dashboard=False, **silent)
        else:
            _check_reachable(address)
            ray.init(address=address, **silent)
    except (OSError, RuntimeError, ImportError, ValueError) as error:
        hint = "start one with ray start --head, or use --address local"
        raise TuwenError(
            f"there is no Ray cluster at {address} ({str(error).splitlines()[0]}): {hint}", value=address, hint=hint
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Check that something listens at the address: Ray itself would retry for minutes.

    Raises:
        OSError: nothing listens there, or no cluster is found (`auto` may find one that was killed).
    """
    from ray._private.services import (
        get_ray_address_from_environment,
    )  # private, but the only way to find the same address

    found = get_ray_address_from_environment(address, None).removeprefix("ray://")
    host, _, port = found.rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


@contextmanager
def _no_requests() -> Iterator[None]:
    """Processes started within the block cannot reach the network by HTTP.

    Even with usage statistics off, Ray asks the metadata services of cloud providers where it runs. Their requests
    are sent to a closed port of this machine.
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
    """The number of workers that the machines of the cluster have cores for."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    found = sum(number // recipe.threads for number in cores)
    if not found:
        raise InvalidInput(
            f"no machine of the cluster has {recipe.threads} cores (they have {cores}): use --threads {max(cores)}",
            value=recipe.threads,
            where="--threads",
            hint=f"use --threads {max(cores)}",
        )
    return found
