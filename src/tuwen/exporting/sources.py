"""Checkpoints by name: where a source that only names a model has its files, on this machine or on the hub."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tuwen.bundle.catalogue import find_known
from tuwen.bundle.hub import Choose, endpoint, fetch, find_here
from tuwen.bundle.manifest import Manifest
from tuwen.bundle.wanted import checkpoint_files, is_openclip, weights_in
from tuwen.errors import InvalidInput, PullFailed
from tuwen.runtime.loading import folder_named
from tuwen.settings import Settings

if TYPE_CHECKING:
    from tuwen.models.towers import Towers


class Checkpoint(NamedTuple):
    """What `load_source` takes: a source, and the file of its weights if they are apart.

    `named`: what it was called before its files were fetched, None where they were given.
    """

    source: str
    weights: Path | None
    named: str | None = None


def download(
    name: str,
    choose: Choose,
    settings: Settings,
    *,
    offline: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of a repository's files, downloaded if they are not on this machine yet.

    Args:
        name: the repository, `ORG/NAME`.
        choose: which of its files.
        settings: where they are kept.
        offline: never ask the hub.
        on_progress: called with the bytes done and the bytes in all.

    Raises:
        PullFailed: they are not here and cannot be downloaded.
    """
    for step in fetch(name, choose, cache=settings.cache, offline=offline or settings.offline):
        if step.folder is not None:
            return step.folder
        if on_progress is not None:
            on_progress(step.done, step.total)
    raise AssertionError("a fetch ends with its folder")


def repository_of(source: str) -> str | None:
    """The repository of a checkpoint that is named, not given as a file; None where there is none.

    Named as `hf:ORG/NAME`, as a known model's source, or as one that open_clip publishes.
    """
    family, _, name = source.partition(":")
    if folder_named(source).exists() or (name and folder_named(name).exists()):
        return None
    if family == "hf":
        return name if name.count("/") == 1 else None
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


def checkpoint(
    source: str,
    weights: Path | None,
    settings: Settings,
    *,
    offline: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Checkpoint:
    """A source as it was typed, its files downloaded where it only names them; arguments as `download`.

    Raises:
        PullFailed: they cannot be fetched.
    """
    repository = repository_of(source) if weights is None else None
    if repository is None:
        return Checkpoint(source, weights)
    try:
        folder = download(repository, checkpoint_files, settings, offline=offline, on_progress=on_progress)
    except PullFailed as error:
        raise PullFailed(f"{error}. {advice(source, [repository], settings)}") from error
    return in_folder(source, folder)


def in_folder(source: str, folder: Path) -> Checkpoint:
    """A named source, as the files of it that were fetched to a folder; a repository's family is told by these."""
    known = find_known(source)
    source = source if known is None else known.source
    if source.startswith("hf:") and is_openclip(folder):
        return Checkpoint(f"openclip:{folder}", None, source)
    if source.startswith("hf:") and (folder / "config.json").exists():
        return Checkpoint(str(folder), None, source)
    if source.startswith("openclip:"):
        return Checkpoint(source, weights_in(folder), source)
    return Checkpoint(str(weights_in(folder)), None, source)


def as_named(towers: "Towers", checkpoint: Checkpoint) -> "Towers":
    """What was fetched, called as it was named and not after the folder that it came to."""
    if checkpoint.named is None:
        return towers
    return replace(towers, name=checkpoint.named.partition(":")[2], source=checkpoint.named)


def advice(name: str, tried: Sequence[str], settings: Settings) -> str:
    """What was tried, and the three ways out."""
    return (
        f"Tried {' and '.join(tried)} at {endpoint()}. Ways out: a mirror (HF_ENDPOINT=URL); tuwen pull {name} on "
        f"another machine, and its folder below {settings.models} copied to the same place here; or the checkpoint "
        "as a local file: tuwen export SOURCE --weights FILE"
    )


def checkpoint_of(manifest: Manifest, weights: Path | None, settings: Settings) -> Checkpoint:
    """What a bundle was made from, as far as it is on this machine; nothing is fetched.

    Raises:
        InvalidInput: it is not on this machine.
    """
    found = checkpoint_here(manifest.source, weights, settings)
    if found is None:
        known = repository_of(manifest.source) is not None
        raise InvalidInput(
            f"the checkpoint of {manifest.name} ({manifest.source}) is not on this machine: add --weights PATH"
            + (f", or get it with tuwen pull {manifest.source} --export" if known else "")
        )
    return found


def named_here(source: str, weights: Path | None, settings: Settings) -> Checkpoint:
    """A checkpoint as it was typed, as far as it is on this machine; nothing is fetched.

    Raises:
        InvalidInput: it is named after a repository of the hub, and is not on this machine.
    """
    found = checkpoint_here(source, weights, settings)
    if found is None and repository_of(source) is not None:
        raise InvalidInput(f"{source} is not on this machine: tuwen export {source} -o FOLDER gets it")
    return found or Checkpoint(source, weights)


def checkpoint_here(source: str, weights: Path | None, settings: Settings) -> Checkpoint | None:
    """The checkpoint that a source names, as it is on this machine; None where it is not.

    Args:
        source: as it was typed, or as a bundle's manifest has it.
        weights: the file of its weights, or the folder of a checkpoint that is one, where it is given.
        settings: where things are.
    """
    family, _, name = source.partition(":")
    if weights is not None and weights.is_dir():
        return Checkpoint(f"{family}:{weights}" if name else str(weights), None)
    if weights is not None:
        architecture, _, tag = name.partition("/")
        drawn_or_file = tag.startswith("random-") or "." in tag
        return Checkpoint(f"{family}:{architecture}" if family == "openclip" and drawn_or_file else source, weights)
    if Path(source).exists() or (name and Path(name).exists()):
        return Checkpoint(source, None)
    repository = repository_of(source) if name else None
    if repository is None:
        return None
    folder = find_here(repository, checkpoint_files, cache=settings.cache, offline=True)
    return None if folder is None else in_folder(source, folder)
