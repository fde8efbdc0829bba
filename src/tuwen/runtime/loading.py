"""A model's name to an encoder that is ready.

Knows where models may be: in the package, in a folder that is named, below the models' folder. Never the network,
and never another model than the one that was named. Does not know how anything is computed.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from typing_extensions import TypeVar

from tuwen.bundle import manifest as layout
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.files import recall, remember
from tuwen.bundle.foreign import is_foreign, read_foreign
from tuwen.bundle.manifest import FOREIGN, Tower
from tuwen.errors import BundleNotFound
from tuwen.runtime.encoder import MAX_PIXELS, Encoder
from tuwen.runtime.selection import Choice, Plan, make_plan, open_session
from tuwen.runtime.session import Session, hold_still

E = TypeVar("E", bound=Encoder, default=Encoder)

# ---- Whether a foreign text tower may be given short rows in place of padded ones

SAME = 1e-5
"""The largest difference of any number in two vectors of length 1 that is rounding; a tower that sees its padding
differs by a hundredth and more."""

TEXTS = ("", "a", "a dog", "two cats on a red sofa", "一只狗在草地上", "A photo of the old harbour, at night!")


def with_cut(bundle: Bundle, plan: Plan, cache: Path | None) -> Bundle:
    """The bundle, its text spec telling whether texts may be cut.

    Args:
        bundle: a foreign one.
        plan: how it will be run. It is tried in fp32, whatever it will compute in: whether a tower sees its padding
            is a matter of its form.
        cache: where the outcome is remembered. None: nothing is tried, and texts are padded.

    Raises:
        RuntimeUnavailable: the text tower cannot be run.
    """
    if cache is None:
        return bundle
    entry = cache / "cuts" / f"{bundle.manifest.fingerprint()}.json"
    exact = recall(entry)
    if not isinstance(exact, bool):
        exact = _is_exact(bundle, plan)
        remember(entry, exact)
    return _marked(bundle, exact=exact)


def _is_exact(bundle: Bundle, plan: Plan) -> bool:
    files = [file for file in bundle.precisions if file != "int8"]
    if not files:
        return False  # the range of a row's numbers, padding included, decides how int8 rounds them
    session = open_session(bundle, "text", replace(plan, file=files[0], precision="fp32"), None)
    if any(axis is not None for port in session.inputs for axis in port.shape[1:]):
        return False
    full, cut = (Encoder(_marked(bundle, exact=exact), lambda _: session, precision="fp32") for exact in (False, True))
    tokens = full.to_tokens(TEXTS)
    return bool(np.abs(full.encode_tokens(tokens) - cut.encode_tokens(tokens)).max() < SAME)


def _marked(bundle: Bundle, *, exact: bool) -> Bundle:
    text = bundle.manifest.text.model_copy(update={"cut_exact": exact})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"text": text}))


# ---- A model's name to an encoder that is ready.

__all__ = ["Choice", "find_bundle", "load_encoder"]

DEMO = "demo"
"""The name of the packaged model."""


def load_encoder(  # noqa: PLR0913  (what a model is, and how it is loaded)
    model: str,
    choice: Choice,
    *,
    models: Path,
    cache: Path | None,
    max_pixels: int = MAX_PIXELS,
    exact_decode: bool = False,
    kind: type[E] = Encoder,  # type: ignore[assignment]  # mypy takes no default for a type variable
) -> E:
    """Load a model. Its files are checked now; each tower is loaded when it is first used.

    The first time that a foreign model is loaded, its text tower is tried out (see `runtime/cut.py`).

    Args:
        model: see `find_bundle`.
        choice: what computes, where and in what.
        models: where pulled models are kept.
        cache: where compiled models and digests are kept; None keeps nothing.
        max_pixels: images of more pixels are rejected.
        exact_decode: whether JPEGs are decoded at full scale.
        kind: the class of the encoder.

    Raises:
        BundleNotFound: there is no such model here.
        BundleError: its files are not right.
        RuntimeUnavailable: what was asked for is not on this machine or not in the bundle.
    """
    found = find_bundle(model, models, cache)
    plan = make_plan(found, choice)
    bundle = with_cut_known(found, plan, cache)
    open_tower = _open_still if choice.static else open_session
    return kind(
        bundle,
        lambda tower: open_tower(bundle, tower, plan, cache),
        precision=plan.precision,
        max_pixels=max_pixels,
        exact_decode=exact_decode,
        threads=choice.threads,
    )


def _open_still(bundle: Bundle, tower: Tower, plan: Plan, cache: Path | None) -> Session:
    return hold_still(open_session(bundle, tower, plan, cache), bundle.manifest.text.context_length)


def with_cut_known(bundle: Bundle, plan: Plan, cache: Path | None) -> Bundle:
    """The bundle; a foreign one is tried out on whether its texts may be cut."""
    return with_cut(bundle, plan, cache) if bundle.manifest.family == FOREIGN else bundle


def find_bundle(model: str, models: Path, cache: Path | None) -> Bundle:
    """Find a model on this machine and check its files.

    Args:
        model: `demo`, a bundle's folder (tuwen's own, Hugging Face's ONNX layout or immich's), or the name of a
            folder below `models`. A folder of that name wins over a name below `models`.
        models: where pulled models are kept.
        cache: where digests of unchanged files are remembered; None remembers nothing.

    Raises:
        BundleNotFound: none of these; the message says where it looked, and the ways out.
        BundleError: the files are not right.
    """
    if model == DEMO:
        from tuwen.demo import demo_bundle

        return read_bundle(demo_bundle(), cache)
    places = (folder_named(model), models / model)
    for folder in places:
        if (folder / layout.MANIFEST).exists():
            return read_bundle(folder, cache)
        if is_foreign(folder):
            return read_foreign(folder, cache)
    raise BundleNotFound(_not_found(model, places))


def folder_named(model: str) -> Path:
    """A folder as a person names it. Where there is no user of the name, `~name` is a folder that is called so."""
    return Path(os.path.expanduser(model))  # noqa: PTH111  (pathlib's raises there)


def _not_found(model: str, places: tuple[Path, Path]) -> str:
    folder, pulled = places
    if folder.is_dir():
        return f"{folder} is a folder, but no model: it has neither {layout.MANIFEST} nor another layout's ONNX files"
    return (
        f"the model {model} is not on this machine: there is no bundle at {folder.absolute()} or {pulled}. "
        f"tuwen pull {model} gets it, if the hub has it; or name another model: --model FOLDER, or --model {DEMO} "
        "for the small packaged one"
    )
