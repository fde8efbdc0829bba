"""Download a model from the hub to the models folder: ready ONNX files, or a checkpoint that is then exported."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.catalogue import Known, catalogue, find_known
from tuwen.bundle.foreign import adopt
from tuwen.bundle.hub import Choose
from tuwen.bundle.manifest import PRECISIONS, Precision
from tuwen.bundle.wanted import checkpoint_files, is_ready, ready_files
from tuwen.demo import packaged_bundles
from tuwen.errors import BundleChanged, BundleInvalid, BundleNotFound, InvalidInput, MissingExtra, PullFailed
from tuwen.exporting.sources import advice, download, in_folder, repository_of
from tuwen.settings import Settings

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]


class Pulled(NamedTuple):
    """The outcome of `pull`: the bundle, and whether it was on this machine already."""

    bundle: Bundle
    already: bool


def pull(
    model: str,
    *,
    precisions: Sequence[Precision] = ("fp32",),
    export: bool = False,
    offline: bool = False,
    on_progress: OnProgress | None = None,
) -> Pulled:
    """Download a model; afterwards every function finds it by its name, without the network.

    A model that is on this machine triggers no request, and an interrupted download is resumed. Processes that pull
    the same model wait for each other.

    Args:
        model: a name in the catalogue (`tuwen models`), or a repository, `ORG/NAME`.
        precisions: the files to get: `fp32`, `fp16`, `int8`.
        export: download the checkpoint and export it, even if there are ready ONNX files.
        offline: do not send requests.
        on_progress: called with the bytes downloaded and the bytes in all.

    Raises:
        InvalidInput: an unknown name.
        PullFailed: the model cannot be downloaded; the message says what was tried and what you can do.
        MissingExtra: it would have to be exported, and PyTorch is not installed.
    """
    from huggingface_hub.utils import WeakFileLock

    known, settings = named(model), Settings()
    if known.own_code:
        hint = "tuwen models lists models that need none"
        message = f"{known.name} needs code from its repository, which is never run: {hint}"
        raise PullFailed(message, value=known.name, hint=hint)
    locks = settings.cache / "pulls"
    locks.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(locks / f"{known.name.replace('/', '--')}.lock"):
        request = _Request(known, settings, tuple(precisions), export, offline, on_progress)
        found = request.find()
        if isinstance(found, Bundle):
            return Pulled(found, already=True)
        return Pulled(found.get(), already=False)


def named(model: str) -> Known:
    """The model of that name in the catalogue, or an entry for any other repository.

    Raises:
        InvalidInput: an unknown name.
    """
    found = find_known(model)
    if found is not None:
        return found
    family, _, name = model.rpartition(":")
    repository = repository_of(model) if family == "openclip" else None
    if repository is not None:
        return Known(name=name, source=model, hub=repository, languages=(), dim=0)
    if family in ("", "hf") and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return Known(name=name, source=f"hf:{name}", hub=name, onnx=name, languages=(), dim=0)
    if model in packaged_bundles():
        hint = f"use it as it is: --model {model}"
        raise InvalidInput(f"{model} is part of the package and need not be pulled; {hint}", value=model, hint=hint)
    near = get_close_matches(model, [known.name for known in catalogue().models], n=3, cutoff=0.3)
    nearest = f" (similar: {', '.join(near)})" if near else ""
    hint = "tuwen models lists the known ones, and any repository can be named as ORG/NAME"
    raise InvalidInput(f"Unknown model {model!r}{nearest}; {hint}", value=model, hint=hint)


@dataclass(frozen=True, slots=True)
class _Request:
    """A model to get, and how."""

    known: Known
    settings: Settings
    precisions: tuple[Precision, ...]
    export: bool
    offline: bool
    on_progress: OnProgress | None

    @property
    def folder(self) -> Path:
        return self.settings.models / self.known.name

    def find(self) -> "Bundle | _Request":
        """The bundle if it is on this machine, else a request that also keeps the precisions it has there.

        A damaged bundle counts as missing. One that was exported is exported again: ready files are another model.
        """
        try:
            bundle = read_bundle(self.folder, self.settings.cache)
        except (BundleNotFound, BundleChanged):
            return self
        except BundleInvalid as error:
            hint = f"remove {self.folder}, and pull it again"
            raise BundleInvalid(f"{error}; {hint}", where=self.folder, hint=hint) from error
        exported = bundle.manifest.source == self.known.source
        if set(self.precisions) <= set(bundle.precisions) and (exported or not self.export):
            return bundle
        every = tuple(kind for kind in PRECISIONS if kind in {*bundle.precisions, *self.precisions})
        return replace(self, precisions=every, export=self.export or exported)

    def get(self) -> Bundle:
        """Download ready files; if there are none, download and export the checkpoint."""
        tried: list[str] = []
        failure = ""
        if self.known.onnx is not None and not self.export:
            tried.append(self.known.onnx)
            try:
                return self._ready(self.known.onnx)
            except (PullFailed, BundleInvalid) as error:
                failure = str(error)
                log.info("no ready ONNX files (%s): exporting the checkpoint", failure)
        return self._exported(tried, failure)

    def _ready(self, repository: str) -> Bundle:
        def choose(names: Sequence[str]) -> list[str]:
            if not is_ready(names):
                raise PullFailed(f"{repository} has no ONNX files of two towers", value=repository)
            return ready_files(names, self.precisions)

        files = self._download(repository, choose)
        return adopt(
            files,
            self.folder,
            name=self.known.name,
            source=f"hf:{repository}@{files.name}",
            licence=self.known.licence,
            cache=self.settings.cache,
        )

    def _exported(self, tried: list[str], failure: str) -> Bundle:
        name, source = self.known.name, self.known.source
        if find_spec("torch") is None:  # checked before a large download; importing it takes seconds
            missing = MissingExtra("torch", "export")
            if not failure:
                raise missing
            ways = advice(source, tried, self.settings)
            raise PullFailed(f"{failure}. Its checkpoint could be exported, but {missing}. {ways}", value=name)
        try:
            folder = self._download(self.known.hub, checkpoint_files)
        except PullFailed as error:
            tried.append(self.known.hub)
            reasons = dict.fromkeys(filter(None, (failure, str(error))))
            ways = advice(source, list(dict.fromkeys(tried)), self.settings)
            raise PullFailed(f"{name}: {'; '.join(reasons)}. {ways}", value=name, hint=ways) from error
        from tuwen.exporting.export import export_towers
        from tuwen.models.sources import load_source

        found = in_folder(source, folder)
        towers = load_source(found.source, found.weights)
        licence = self.known.licence or towers.licence
        return export_towers(replace(towers, name=name, source=source, licence=licence), self.folder, self.precisions)

    def _download(self, repository: str, choose: Choose) -> Path:
        return download(repository, choose, self.settings, offline=self.offline, on_progress=self.on_progress)
