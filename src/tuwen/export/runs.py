"""Every way in which this machine can run a bundle: what verification has to go through."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Precision
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.encoder import Encoder
from tuwen.tasks.load import Choice, load_encoder

_ALWAYS = ("onnxruntime", "openvino")  # tuwen's own dependencies


@dataclass(frozen=True, slots=True)
class Run:
    """A bundle's files of one precision on one runtime.

    Attributes:
        runtime: its name.
        precision: the least that the files hold or the runtime computes in, which bounds how exact it can be.
        encoder: the bundle, ready to run.
    """

    runtime: str
    precision: str
    encoder: Encoder


def runs(bundle: Bundle, precision: Precision) -> Iterator[Run]:
    """The bundle's files of `precision` on the CPU by each runtime, and fp32 ones in bf16 where the CPU has it."""
    for runtime in _ALWAYS:
        yield Run(runtime, precision, _load(bundle, runtime, precision))
    if precision == "fp32":
        try:
            yield Run("openvino", "bf16", _load(bundle, "openvino", "bf16"))
        except RuntimeUnavailable:
            return


def _load(bundle: Bundle, runtime: str, precision: str) -> Encoder:
    """Without a cache: what is verified is what was just written."""
    with tempfile.TemporaryDirectory() as cache:
        choice = Choice(runtime=runtime, device="cpu", precision=precision, threads=None)
        return load_encoder(str(bundle.folder), choice, models=Path(cache), cache=Path(cache))
