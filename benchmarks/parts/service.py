"""A service in a process of its own, `tuwen serve` or a peer's: started until it answers, looked at, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import httpx2

import tuwen
from tuwen.errors import ServiceFault

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 180
"""seconds until a service must answer"""


class Process(AbstractContextManager["Process"]):
    """A service at an address of its own; what it says goes to a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """`{port}` in the command becomes the port that it is to listen on."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [word.replace("{port}", str(self.port)) for word in command]
        self._log = log.open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Whether it is ready."""
        try:
            return httpx2.get(f"{self.url}/health", timeout=10).is_success
        except httpx2.HTTPError:
            return False

    def start(self) -> Self:
        """Returns when it is ready."""
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the service ended with {self._process.returncode}: see {self._log.name}")
            if self.answers():
                return self
            time.sleep(0.1)
        raise RuntimeError(f"the service did not answer within {PATIENCE} s: see {self._log.name}")

    def stop(self) -> None:
        """As Ctrl-C, and waits."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def kill(self) -> None:
        """With SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def resident_mib(self) -> float:
        """Resident memory."""
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def private_mib(self) -> float:
        """Resident memory without mapped files."""
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

    def cpu_seconds(self) -> float:
        """What it has computed so far, in user and system mode."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def _proc(self) -> Path:
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()


class Service(Process):
    """`tuwen serve`."""

    def __init__(self, index: Path, model: str, *options: str, log: Path) -> None:
        command = [sys.executable, "-m", "tuwen", "serve", "--index", str(index), "--model", model, "--no-open"]
        super().__init__([*command, "--port", "{port}", "--log", "errors", *options], log)

    def answers(self) -> bool:
        """Whether it is ready to search."""
        with tuwen.Client(self.url, timeout=10) as client:
            try:
                client.info()
            except ServiceFault:
                return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
