"""Loading: a model's name to an encoder.

Models are found in the package, in a folder, or below the models folder; never on the network.
"""

import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from typing_extensions import TypeVar

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.files import recall, remember
from tuwen.bundle.foreign import is_foreign, read_foreign
from tuwen.bundle.manifest import FOREIGN, Tower
from tuwen.demo import PHOTO, PICTOGRAMS, packaged_bundles, packaged_names
from tuwen.errors import BundleNotFound
from tuwen.runtime.encoder import MAX_PIXELS, Encoder
from tuwen.runtime.measured import Plans, Size, choose
from tuwen.runtime.selection import Choice, Plan, make_plan, open_session
from tuwen.runtime.session import Session, static_shapes
from tuwen.settings import RECOMMENDED_MODEL

__all__ = ["Choice", "find_bundle", "load_encoder"]

E = TypeVar("E", bound=Encoder, default=Encoder)


def load_encoder(  # noqa: PLR0913  (what a model is, and how it is loaded)
    model: str,
    choice: Choice,
    *,
    models: Path,
    cache: Path | None,
    max_pixels: int = MAX_PIXELS,
    exact_decode: bool = False,
    measure: bool = False,
    kind: type[E] = Encoder,  # type: ignore[assignment]  # mypy takes no default for a type variable
) -> E:
    """Load a model. Its files are checked now; each tower is loaded when it is first used.

    When another tool's model is loaded for the first time, its text tower is tested, see `with_truncation`.

    Args:
        model: see `find_bundle`.
        choice: runtime, device, precision, threads.
        models: where pulled models are kept.
        cache: where compiled models and digests are kept; None keeps nothing.
        max_pixels: images of more pixels are rejected.
        exact_decode: whether JPEGs are decoded at full scale.
        measure: whether to measure first what is fastest here, if that is not known; see `measured.choose`.
        kind: the class of the encoder.

    Raises:
        BundleNotFound: there is no such model on this machine.
        BundleError: its files are invalid.
        RuntimeUnavailable: the choice is not available on this machine or in the bundle.
    """
    bundle, plans = planned(find_bundle(model, models, cache), choice, cache, measure=measure)
    sessions = _Sessions(bundle, plans, cache, static=choice.static)
    return kind(
        bundle,
        partial(sessions.open, size="many"),
        open_single=partial(sessions.open, size="one"),
        precision=plans["vision", "many"].precision,
        max_pixels=max_pixels,
        exact_decode=exact_decode,
        threads=choice.threads,
        names=_names(model, bundle.folder, models),
        cache=cache,
    )


def _names(model: str, folder: Path, models: Path) -> list[str]:
    """The names by which `find_bundle` finds a model, beside that in its manifest."""
    if packaged := packaged_names(folder):
        return packaged
    names = [model, folder.name]
    if folder.resolve().is_relative_to(models.resolve()):
        names.append(folder.resolve().relative_to(models.resolve()).as_posix())
    return names


def planned(bundle: Bundle, choice: Choice, cache: Path | None, *, measure: bool = False) -> tuple[Bundle, Plans]:
    """How a bundle is computed, and the bundle with what is known of its text tower; arguments as `load_encoder`."""
    ready = with_truncation(bundle, make_plan(bundle, choice), cache)
    return ready, choose(ready, choice, cache, measure=measure)


class _Sessions:
    """Opens towers; what computes single inputs and batches alike is loaded once."""

    def __init__(self, bundle: Bundle, plans: Plans, cache: Path | None, *, static: bool) -> None:
        self._bundle = bundle
        self._plans = plans
        self._cache = cache
        self._static = static
        self._opened: dict[tuple[Tower, Plan], Session] = {}
        self._lock = threading.Lock()

    def open(self, tower: Tower, *, size: Size) -> Session:
        """The session of a tower for inputs one by one, or in batches."""
        plan = self._plans[tower, size]
        with self._lock:
            if (tower, plan) not in self._opened:
                session = open_session(self._bundle, tower, plan, self._cache)
                length = self._bundle.manifest.text.context_length
                self._opened[tower, plan] = static_shapes(session, length) if self._static else session
            return self._opened[tower, plan]


def find_bundle(model: str, models: Path, cache: Path | None) -> Bundle:
    """Find a model on this machine and check its files.

    Args:
        model: the name of a packaged model, a bundle's folder (tuwen's own, Hugging Face's ONNX layout or immich's),
            or the name of a folder below `models`; looked for in this order.
        models: where pulled models are kept.
        cache: where digests of unchanged files are remembered; None remembers nothing.

    Raises:
        BundleNotFound: none of these; the message says where was searched.
        BundleError: the files are invalid.
    """
    packaged = packaged_bundles().get(model)
    if packaged is not None:
        return read_bundle(packaged, cache)
    places = (folder_named(model), models / model)
    for folder in places:
        if (folder / layout.MANIFEST).exists():
            return read_bundle(folder, cache)
        if is_foreign(folder):
            return read_foreign(folder, cache)
    raise _not_found(model, places)


def default_model(setting: str | None, models: Path) -> str:
    """The model where none is named: the setting's, else the recommended one if it was pulled, else `photo`.

    Args:
        setting: the setting `default_model`.
        models: where pulled models are kept.
    """
    pulled = models / RECOMMENDED_MODEL
    is_pulled = (pulled / layout.MANIFEST).exists() or is_foreign(pulled)
    return setting or (RECOMMENDED_MODEL if is_pulled else PHOTO)


def folder_named(model: str) -> Path:
    """A folder, with `~` expanded; `~name` stays as it is if there is no user of that name."""
    return Path(os.path.expanduser(model))  # noqa: PTH111  (pathlib's raises there)


def portable_name(model: str) -> str:
    """A model's folder as an absolute path, so that it is found from any working folder; other names unchanged."""
    folder = folder_named(model)
    return str(folder.absolute()) if folder.is_dir() and model not in packaged_bundles() else model


def _not_found(model: str, places: tuple[Path, Path]) -> BundleNotFound:
    folder, pulled = places
    if folder.is_dir():
        message = f"{folder} contains no model: it has neither {layout.MANIFEST} nor ONNX files in another known layout"
        return BundleNotFound(message, value=model, where=folder)
    hint = (
        f"download it with tuwen pull {model}, or name another: a folder, or a packaged model ({PHOTO}, {PICTOGRAMS})"
    )
    message = f"the model {model} is not on this machine (searched {folder.absolute()} and {pulled}): {hint}"
    return BundleNotFound(message, value=model, where=places, hint=hint)


SAME = 1e-5
"""largest difference between two unit vectors that is rounding; a tower that attends to padding differs by 0.01"""

TEXTS = ("", "a", "a dog", "two cats on a red sofa", "一只狗在草地上", "A photo of the old harbour, at night!")


def with_truncation(bundle: Bundle, plan: Plan, cache: Path | None) -> Bundle:
    """The bundle, with `cut_exact` measured: whether padding can be truncated without changing the vectors.

    Bundles of tuwen already say so; those of other tools are tested once.

    Args:
        bundle: the model.
        plan: how it is run. The test computes in fp32, since it depends on the graph alone.
        cache: where the result is remembered. None: nothing is tested, and texts are padded.

    Raises:
        RuntimeUnavailable: the text tower cannot be run.
    """
    if cache is None or bundle.manifest.family != FOREIGN:
        return bundle
    entry = cache / "cuts" / f"{bundle.manifest.fingerprint()}.json"
    exact = recall(entry)
    if not isinstance(exact, bool):
        exact = _truncation_is_exact(bundle, plan)
        remember(entry, exact)
    return _marked(bundle, exact=exact)


def _truncation_is_exact(bundle: Bundle, plan: Plan) -> bool:
    files = [file for file in bundle.precisions if file != "int8"]
    if not files:
        return False  # int8 rounds by the range of a row's numbers, padding included
    session = open_session(bundle, "text", replace(plan, file=files[0], precision="fp32"), None)
    if any(axis is not None for port in session.inputs for axis in port.shape[1:]):
        return False
    padded, truncated = (
        Encoder(_marked(bundle, exact=exact), lambda _: session, precision="fp32") for exact in (False, True)
    )
    tokens = padded.to_tokens(TEXTS)
    return bool(np.abs(padded.encode_tokens(tokens) - truncated.encode_tokens(tokens)).max() < SAME)


def _marked(bundle: Bundle, *, exact: bool) -> Bundle:
    text = bundle.manifest.text.model_copy(update={"cut_exact": exact})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"text": text}))
