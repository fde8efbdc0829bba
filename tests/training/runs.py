"""A small run of training: 24 pictures of plain colours with captions, open_clip towers of two blocks."""

import json
import os
import signal
import socket
import sys
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # by the optimiser: imported here, the forked processes have it
import torch.utils.tensorboard
from PIL import Image

from tuwen.cli.command import exit_code
from tuwen.training.config import TrainConfig
from tuwen.training.config_file import config_of
from tuwen.training.loop import fit

from .towers import OVERRIDES

COLOURS = ("black", "red", "green", "yellow", "blue", "purple", "cyan", "white")


def write_pairs(folder: Path, count: int = 24) -> Path:
    """Two squares of colours beside each other; the caption names them."""
    folder.mkdir(parents=True)
    for number in range(count):
        left, right = number % 8, (number * 5 // 8 + 3 * number) % 8
        picture = Image.new("RGB", (48, 48))
        for side, colour in enumerate((left, right)):
            rgb = tuple(230 * (colour >> bit & 1) + number % 7 for bit in range(3))
            picture.paste(rgb, (24 * side, 0, 24 * side + 24, 48))
        picture.save(folder / f"{number:03}.png")
        text = f"{COLOURS[left]} and {COLOURS[right]} number {number}"
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return folder


def tree(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """The configuration as YAML has it; `changes`: by section."""
    found: dict[str, Any] = {
        "model": {"source": "openclip:ViT-B-32/openai", "scratch": True, "overrides": OVERRIDES},
        "data": {"train": str(data)},
        "optimizer": {"lr": 1e-3, "layer_decay": 0.8, "clip": 1.0},
        "schedule": {"warmup_steps": 2},
        "run": {"output": str(output), "steps": 8, "batch": 6, "workers": 0, "log_every": 1, "save_steps": 4},
        "export": {"precisions": [], "bench": False},
    }
    found["run"]["device"] = "cpu"
    for section, values in changes.items():
        found[section] = found.get(section, {}) | values
    return found


def config(data: Path, output: Path, **changes: Any) -> TrainConfig:
    return config_of(tree(data, output, **changes))


def losses(output: Path) -> list[float]:
    """By step, from the log; no step may be missing or twice."""
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def start(settings: TrainConfig, *, resume: bool = False, rank: int | None = None, port: int = 0) -> BaseProcess:
    """A process that trains; with a rank, one of two as torchrun starts them."""
    process = get_context("fork").Process(target=_train, args=(settings, resume, rank, port))  # need not import torch
    process.start()
    return process


def start_two(settings: TrainConfig, *, resume: bool = False) -> list[BaseProcess]:
    port = free_port()
    return [start(settings, resume=resume, rank=rank, port=port) for rank in range(2)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def done(*processes: BaseProcess) -> list[int | None]:
    """How they ended."""
    for process in processes:
        process.join(250)
    return [process.exitcode for process in processes]


def kill_after(process: BaseProcess, output: Path, lines: int) -> None:
    """kill -9, once the log has so many lines."""
    log = output / "log.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < lines:
        assert process.is_alive(), "ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def _train(settings: TrainConfig, resume: bool, rank: int | None, port: int) -> None:
    torch.set_num_threads(1)
    if rank is not None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    sys.exit(exit_code(lambda: fit(settings, lambda line: None, resume=resume) and None))
