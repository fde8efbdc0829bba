"""Whole commands in processes of their own, as a person types them.

Every one runs under a recorder: a journey fails if anything in it reaches for another machine or imports torch.
"""

import json
import os
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest

import colours
import tuwen
from cli.running import run
from isolation import COMPUTING

RECORDER = """
import atexit, os, sys

def record(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[-1], tuple):
        host = arguments[-1][0]
    else:
        return
    with open(os.environ["TUWEN_TEST_RECORD"], "a") as file:
        file.write(f"{event} {host}\\n")

def record_modules():
    with open(os.environ["TUWEN_TEST_RECORD"], "a") as file:
        for name in {"torch", "torchvision", "transformers", "open_clip"} & set(sys.modules):
            file.write(f"imported {name}\\n")
        file.write("ended 127.0.0.1\\n")

sys.addaudithook(record)
atexit.register(record_modules)
"""
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Terminal:
    """A folder to work in and an environment of one's own: nobody's settings, models or caches."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.record = home / f"{folder.name}.record"
        hooks = home / "hooks"
        hooks.mkdir(exist_ok=True)
        (hooks / "sitecustomize.py").write_text(RECORDER)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(map(str, (hooks, Path(tuwen.__file__).parents[1]))),
            "PYTHONWARNINGS": "error",
            "TUWEN_TEST_RECORD": str(self.record),
            "TUWEN_TRACEBACK": "1",
            **COMPUTING,
        }

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "tuwen", *map(str, arguments)]

    def start(self, *arguments: object, **options: object) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            **options,
        )

    def type(self, *arguments: object, code: int = 0) -> Ended:
        """Run `tuwen` with these arguments; it must end with that code and without a traceback."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{arguments}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return Ended(process.returncode, out, err)

    def look(self, *arguments: object, code: int = 0) -> Ended:
        """The same in this process, in a tenth of the time: for one more look at what commands have made."""
        with chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            done = run(*arguments)
        assert done.exit_code == code, f"{arguments}\n{done.output}"
        return Ended(done.exit_code, done.stdout, done.stderr)

    def reached(self) -> set[str]:
        """The hosts that anything tried to reach, this machine left out, and heavy packages that were imported."""
        return {line.split()[1] for line in self.record.read_text().splitlines()} - LOOPBACK

    def check(self) -> None:
        """Fail if a command reached for another machine or imported torch, or if nobody looked."""
        assert self.record.exists(), "the recorder did not run"
        assert self.reached() == set()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all journeys, so that models are compiled once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def terminal(tmp_path: Path, home: Path):
    """A folder of one's own."""
    terminal = Terminal(tmp_path, home)
    yield terminal
    terminal.check()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, home: Path, bundle: Path):
    """A folder that a module's tests share: `PHOTOS/` and its index `photos.tuwen`, to look at, not to change."""
    desk = Terminal(tmp_path_factory.mktemp("desk"), home)
    colours.make_photos(desk.folder / "PHOTOS")
    desk.type("index", "build", "PHOTOS/", "--index", "photos.tuwen", "--model", bundle)
    yield desk
    desk.check()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of colours."""
    return colours.make_bundle(tmp_path_factory.mktemp("models") / "colours")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of each of five colours, in folders, and a text file."""
    return colours.make_photos(tmp_path / "PHOTOS")
