"""Models and checkpoints by name, brought from the hub: what `pull` and `export` share.

Knows how far a transfer is and how it is shown, and what to advise where it fails.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from tuwen.cli import proof
from tuwen.cli.ending import say
from tuwen.cli.progress import Progress
from tuwen.errors import PullFailed

if TYPE_CHECKING:
    from tuwen.bundle.fetch import Choose
    from tuwen.settings import Settings

MIB = 2**20

offline = click.option("--offline", is_flag=True, help="Do not ask the hub; also the setting TUWEN_OFFLINE.")


class Checkpoint(NamedTuple):
    """What `load_source` takes: a source, and the file of its weights if they are apart."""

    source: str
    weights: Path | None


def bring(name: str, choose: "Choose", settings: "Settings", *, offline: bool, progress: str = "auto") -> Path:
    """The folder of a repository's files, fetched if they are not here yet; shows how far it is.

    Raises:
        PullFailed: they are not here and cannot be fetched.
    """
    from tuwen.bundle.fetch import fetch

    shown = False
    with proof.steps_shown(), Progress(progress) as bar:
        for step in fetch(name, choose, cache=settings.cache, offline=offline or settings.offline):
            if step.folder is not None:
                return step.folder
            if not shown:
                say(f"{name}: {step.total / MIB:,.1f} MiB")
                bar.begin(step.total // MIB)
                shown = True
            bar.show(step.done // MIB)
    raise AssertionError("a fetch ends with its folder")


def repository_of(source: str) -> str | None:
    """The repository of a checkpoint that is named, not given as a file; None where there is none.

    Named as `hf:ORG/NAME`, as a known model's source, or as one that open_clip publishes.
    """
    from tuwen.bundle.catalogue import find_known

    family, _, name = source.partition(":")
    if family == "hf":
        return None if Path(name).expanduser().exists() or name.count("/") != 1 else name
    known = find_known(source)
    if known is not None:
        return known.hub
    return _published(name) if family == "openclip" else None


def _published(name: str) -> str | None:
    """Where open_clip says that it publishes the weights `ARCHITECTURE/TAG`."""
    from tuwen.models.openclip import import_open_clip

    architecture, _, tag = name.partition("/")
    entry = import_open_clip().get_pretrained_cfg(architecture, tag)
    hub = str(entry.get("hf_hub") or "").rstrip("/")
    return hub if hub.count("/") == 1 else None


def checkpoint(source: str, weights: Path | None, settings: "Settings", *, offline: bool) -> Checkpoint:
    """A source as it was typed, its files fetched where it only names them.

    Raises:
        PullFailed: they cannot be fetched.
    """
    repository = repository_of(source) if weights is None else None
    if repository is None:
        return Checkpoint(source, weights)
    from tuwen.bundle.wanted import checkpoint_files

    try:
        folder = bring(repository, checkpoint_files, settings, offline=offline)
    except PullFailed as error:
        raise PullFailed(f"{error}. {advice(source, [repository], settings)}") from error
    return in_folder(source, folder)


def in_folder(source: str, folder: Path) -> Checkpoint:
    """A named source, as the files of it that were fetched."""
    from tuwen.bundle.wanted import weights_in

    if source.startswith("hf:"):
        return Checkpoint(f"hf:{folder}", None)
    if source.startswith("openclip:"):
        return Checkpoint(source, weights_in(folder))
    return Checkpoint(str(weights_in(folder)), None)


def advice(name: str, tried: Sequence[str], settings: "Settings") -> str:
    """What was tried, and the three ways out."""
    from tuwen.bundle.hub import endpoint

    return (
        f"Tried {' and '.join(tried)} at {endpoint()}. Ways out: a mirror (HF_ENDPOINT=URL); tuwen pull {name} on "
        f"another machine, and its folder below {settings.models} copied to the same place here; or the checkpoint "
        "as a local file: tuwen export SOURCE --weights FILE"
    )
