"""Whether a foreign text tower may be given short rows in place of padded ones: tried once, then remembered.

tuwen's own bundles carry this from their export. Of a foreign one nobody says it, and guessing wrong would give
other vectors, so a few texts are encoded both ways.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.remembered import recall, remember
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.plan import Plan, open_session

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
    full, cut = (
        Encoder(_marked(bundle, exact=exact), lambda _: session, precision="fp32") for exact in (False, True)
    )
    tokens = full.to_tokens(TEXTS)
    return bool(np.abs(full.encode_tokens(tokens) - cut.encode_tokens(tokens)).max() < SAME)


def _marked(bundle: Bundle, *, exact: bool) -> Bundle:
    text = bundle.manifest.text.model_copy(update={"cut_exact": exact})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"text": text}))
