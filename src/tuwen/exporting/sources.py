"""Find the files of a checkpoint that is given by name, on this machine or on the hub."""

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
    """The arguments of `load_source`: a source, and the file of its weights if that is separate.

    `named`: the name that it was downloaded by; None if its files were given.
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
    """The folder of a repository's files, which are downloaded unless they are on this machine.

    Args:
        name: the repository, `ORG/NAME`.
        choose: selects its files.
        settings: where downloads are kept.
        offline: do not download anything.
        on_progress: called with the bytes done and the bytes in all.

    Raises:
        PullFailed: they are not on this machine and cannot be downloaded.
    """
    for step in fetch(name, choose, cache=settings.cache, offline=offline or settings.offline):
        if step.folder is not None:
            return step.folder
        if on_progress is not None:
            on_progress(step.done, step.total)
    raise AssertionError("a fetch ends with its folder")


def repository_of(source: str) -> str | None:
    """The hub repository of a named checkpoint; None if the source is a file, or names none.

    Names are `hf:ORG/NAME`, the sources in the catalogue, and the weights that open_clip publishes.
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
    """The repository in which open_clip publishes the weights `ARCHITECTURE/TAG`."""
    from tuwen.models.torchvision import import_open_clip

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
    """The checkpoint of a source, downloaded if the source only names it; arguments as `download`.

    Raises:
        PullFailed: it cannot be downloaded.
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
    """A named checkpoint whose files were downloaded to a folder; the files tell the family."""
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
    """The towers of a downloaded checkpoint, with the name it was downloaded by and not that of its folder."""
    if checkpoint.named is None:
        return towers
    return replace(towers, name=checkpoint.named.partition(":")[2], source=checkpoint.named)


def advice(name: str, tried: Sequence[str], settings: Settings) -> str:
    """Which repositories were tried, and three ways to go on."""
    return (
        f"Tried {' and '.join(tried)} at {endpoint()}. You can use a mirror (HF_ENDPOINT=URL); run tuwen pull {name} "
        f"on another machine and copy its folder below {settings.models} to the same place on this one; or export a "
        "local file: tuwen export SOURCE --weights FILE"
    )


def checkpoint_of(manifest: Manifest, weights: Path | None, settings: Settings) -> Checkpoint:
    """The checkpoint that a bundle was made from; nothing is downloaded.

    Raises:
        InvalidInput: it is not on this machine.
    """
    found = checkpoint_here(manifest.source, weights, settings)
    if found is None:
        known = repository_of(manifest.source) is not None
        hint = "add --weights PATH" + (f", or run tuwen pull {manifest.source} --export" if known else "")
        raise InvalidInput(
            f"the checkpoint of {manifest.name} ({manifest.source}) is not on this machine: {hint}",
            value=manifest.source,
            hint=hint,
        )
    return found


def named_here(source: str, weights: Path | None, settings: Settings) -> Checkpoint:
    """The checkpoint of a source; nothing is downloaded.

    Raises:
        InvalidInput: the source names a repository of the hub that is not on this machine.
    """
    found = checkpoint_here(source, weights, settings)
    if found is None and repository_of(source) is not None:
        hint = f"tuwen export {source} -o FOLDER downloads it"
        raise InvalidInput(f"{source} is not on this machine: {hint}", value=source, hint=hint)
    return found or Checkpoint(source, weights)


def checkpoint_here(source: str, weights: Path | None, settings: Settings) -> Checkpoint | None:
    """The checkpoint of a source on this machine; None if it is not here.

    Args:
        source: as the user or a bundle's manifest writes it.
        weights: the file of its weights, or the checkpoint's folder, if given.
        settings: where downloads are kept.
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
