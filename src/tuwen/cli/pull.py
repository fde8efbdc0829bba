"""`tuwen pull`: a model from the hub to a bundle on this machine; afterwards no command needs the network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

import click

from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.catalogue import Known, catalogue, find_known
from tuwen.bundle.foreign import adopt
from tuwen.bundle.hub import Choose
from tuwen.bundle.manifest import PRECISIONS, Precision
from tuwen.bundle.wanted import checkpoint_files, is_ready, ready_files
from tuwen.cli import hub, options
from tuwen.cli import verification as proof
from tuwen.cli.command import Command, say
from tuwen.cli.console import emit
from tuwen.errors import BundleChanged, BundleInvalid, BundleNotFound, InvalidInput, MissingExtra, PullFailed
from tuwen.exporting.sources import advice, in_folder, repository_of
from tuwen.runtime.loading import DEMO
from tuwen.settings import Settings, read_settings


@click.command(
    cls=Command,
    examples=(
        "tuwen pull ViT-B-32/laion2b_s34b_b79k",
        "tuwen pull xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k --export --precision fp32,int8",
        "HF_ENDPOINT=https://hub.example.org tuwen pull Xenova/clip-vit-base-patch32",
    ),
)
@click.argument("model")
@click.option(
    "--precision", default="fp32", show_default=True, metavar="LIST", help="Which files: of fp32, fp16, int8."
)
@click.option("--export", "exports", is_flag=True, help="From the checkpoint, even if ready ONNX files are known.")
@hub.offline
@options.progress
@options.as_json
def pull(*, model: str, precision: str, exports: bool, offline: bool, progress: str, as_json: bool) -> None:
    """Download a model from the hub.

    MODEL is a name that `tuwen models` lists, or a repository, ORG/NAME. Ready ONNX files are taken where they are
    known; else the checkpoint is fetched and exported, which needs the extra `export`. A model that is here already
    causes no request. A transfer that broke off, for whatever reason, is gone on with.
    """
    settings, known = read_settings(), _known(model)
    kinds = hub.listed(precision)
    wish = Wish(known, settings, kinds, exports=exports, offline=offline, progress=progress)
    start = monotonic()
    with wish.alone():
        found = wish.here()
        bundle = found or wish.get()
    if bundle.manifest.scoring is None:
        say(f"{bundle.manifest.name} searches; for tuwen classify, its scale is needed: tuwen pull {model} --export")
    _show(bundle, already=found is not None, seconds=monotonic() - start, as_json=as_json)


def _known(model: str) -> Known:
    """The model of that name; any other repository stands for itself.

    Raises:
        InvalidInput: it is neither.
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
    if model == DEMO:
        raise InvalidInput("the model demo is in the package: name it with --model demo, there is nothing to pull")
    near = get_close_matches(model, [known.name for known in catalogue().models], n=3, cutoff=0.3)
    nearest = f" (the nearest: {', '.join(near)})" if near else ""
    raise InvalidInput(
        f"no model is called {model!r}{nearest}: tuwen models lists those that are known, and any repository can "
        "be named as ORG/NAME"
    )


class Wish:
    """A model that is wanted here, and how."""

    def __init__(
        self,
        known: Known,
        settings: Settings,
        precisions: list[Precision],
        *,
        exports: bool,
        offline: bool,
        progress: str,
    ) -> None:
        self.known = known
        self.settings = settings
        self.precisions = precisions
        self.exports = exports
        self.offline = offline
        self.progress = progress
        self.folder = settings.models / known.name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process at a time gets this model; the others wait, and then find it here."""
        from huggingface_hub.utils import WeakFileLock

        locks = self.settings.cache / "pulls"
        locks.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(locks / f"{self.known.name.replace('/', '--')}.lock"):
            yield

    def here(self) -> Bundle | None:
        """The bundle, if it is here as it is wanted; else the precisions that it has are wanted, too.

        One that is damaged is not here. One that was exported is exported again: ready files are another model.
        """
        try:
            bundle = read_bundle(self.folder, self.settings.cache)
        except (BundleNotFound, BundleChanged):
            return None
        except BundleInvalid as error:
            raise BundleInvalid(f"{error}: remove {self.folder}, and pull it again") from error
        exported = bundle.manifest.source == self.known.source
        missing = set(self.precisions) - set(bundle.precisions) or (self.exports and not exported)
        self.exports = self.exports or exported
        self.precisions = [kind for kind in PRECISIONS if kind in {*bundle.precisions, *self.precisions}]
        return None if missing else bundle

    def get(self) -> Bundle:
        """Get it, by the first way that works.

        Raises:
            PullFailed: by none; the message says what was tried, and the ways out.
            MissingExtra: it would have to be exported, and torch is not installed.
        """
        tried: list[str] = []
        failure = ""
        if self.known.onnx is not None and not self.exports:
            tried.append(self.known.onnx)
            try:
                return self._ready(self.known.onnx)
            except (PullFailed, BundleInvalid) as error:
                failure = str(error)
                say(f"no ready ONNX files ({failure}): exporting the checkpoint")
        return self._exported(tried, failure)

    def _ready(self, repository: str) -> Bundle:

        def choose(names: Sequence[str]) -> list[str]:
            if not is_ready(names):
                raise PullFailed(f"{repository} has no ONNX files of two towers")
            return ready_files(names, self.precisions)

        files = self._bring(repository, choose)
        source = f"hf:{repository}@{files.name}"
        names = {"name": self.known.name, "source": source, "licence": self.known.licence}
        return adopt(files, self.folder, **names, cache=self.settings.cache)

    def _exported(self, tried: list[str], failure: str) -> Bundle:

        name = self.known.name
        if find_spec("torch") is None:  # asked before gigabytes are fetched in vain; importing it takes seconds
            missing = MissingExtra("torch", "export")
            if not failure:
                raise missing
            ways = advice(self.known.source, tried, self.settings)
            raise PullFailed(f"{failure}. Its checkpoint could be exported, but {missing}. {ways}")
        try:
            folder = self._bring(self.known.hub, checkpoint_files)
        except PullFailed as error:
            tried.append(self.known.hub)
            reasons = dict.fromkeys(filter(None, (failure, str(error))))
            ways = advice(self.known.source, list(dict.fromkeys(tried)), self.settings)
            raise PullFailed(f"{name}: {'; '.join(reasons)}. {ways}") from error
        return self._export(folder)

    def _export(self, folder: Path) -> Bundle:
        from tuwen.exporting.export import export_towers as to_bundle
        from tuwen.exporting.samples import given
        from tuwen.models.sources import load_source

        with proof.steps_shown():
            found = in_folder(self.known.source, folder)
            towers = load_source(found.source, found.weights)
            called = replace(
                towers,
                name=self.known.name,
                source=self.known.source,
                licence=self.known.licence or towers.licence,
            )
            return to_bundle(called, self.folder, self.precisions, given((), None))

    def _bring(self, repository: str, choose: Choose) -> Path:
        return hub.bring(repository, choose, self.settings, offline=self.offline, progress=self.progress)


def _show(bundle: Bundle, *, already: bool, seconds: float, as_json: bool) -> None:
    manifest = bundle.manifest
    if as_json:
        emit(
            {
                **proof.named(bundle),
                "source": manifest.source,
                "already": already,
                "seconds": round(seconds, 3),
            }
        )
        return
    state = "is here already" if already else f"pulled in {seconds:.0f} s"
    click.echo(f"{manifest.name}: {state}; {', '.join(bundle.precisions)}, {manifest.dim} numbers a vector")
    click.echo(f"use it from anywhere: --model {manifest.name}")
