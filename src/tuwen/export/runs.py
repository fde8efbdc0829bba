"""Every way in which this machine's CPU can run a bundle: what verification has to go through."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.layout import Tower
from tuwen.bundle.manifest import Precision
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.openvino import native_precisions
from tuwen.runtime.plan import Choice, make_plan, open_session
from tuwen.runtime.session import Session


@dataclass(frozen=True, slots=True)
class Run:
    """A bundle's files of one precision on one runtime.

    Attributes:
        runtime: its name.
        precision: the lesser of what the files hold and what the runtime computes in, which bounds the error.
        encoder: the bundle, ready to run.
    """

    runtime: str
    precision: str
    encoder: Encoder


def runs(bundle: Bundle, precision: Precision) -> Iterator[Run]:
    """The bundle's files of `precision` by each runtime; fp32 ones in bf16 too, where the CPU has it."""
    graphs = {place: path for place, path in bundle.graphs.items() if place[1] == precision}
    files = replace(bundle, graphs=graphs)
    computed = "int8" if precision == "int8" else "fp32"
    for runtime in ("onnxruntime", "openvino"):
        yield Run(runtime, precision, _encoder(files, Choice(runtime, "cpu", computed)))
    if precision == "fp32" and "bf16" in native_precisions("cpu"):
        yield Run("openvino", "bf16", _encoder(files, Choice("openvino", "cpu", "bf16")))


def _encoder(bundle: Bundle, choice: Choice) -> Encoder:
    """Exact decoding, as the checkpoint's own; no cache of compiled models: what was just written is verified."""
    plan = make_plan(bundle, choice)

    def load(tower: Tower) -> Session:
        return open_session(bundle, tower, plan, cache=None)

    return Encoder(bundle, load, precision=plan.precision, exact_decode=True)
