"""Engine selection: which runtimes, devices, files and precisions this machine and a bundle offer.

A choice that is not available is an error that lists what is; it is never replaced silently. Which of several that are
available is the fastest is measured, see `measured.py`.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import FP16_OVERFLOWS, Precision, Tower
from tuwen.errors import InvalidInput, RuntimeUnavailable
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.machine import (
    accelerators,
    conflict,
    native_precisions,
    onnxruntime_here,
    openvino_here,
    usable_cores,
)
from tuwen.runtime.onnxruntime import NUMBERED, PROVIDERS, OnnxRuntimeSession
from tuwen.runtime.openvino import OpenVinoSession
from tuwen.runtime.session import Session
from tuwen.types import Port

if TYPE_CHECKING:
    from tuwen.settings import Settings

RUNTIMES = ("auto", "onnxruntime", "openvino")
COMPUTED = ("fp32", "fp16", "bf16", "int8")
"""what a plan may compute in, the most exact first"""
AUTO, FAST = "auto", "fast"
"""the fastest precision that keeps the vectors exact, and the fastest that passed verification"""
ASKED = (AUTO, FAST, *COMPUTED)
"""what the user may ask for"""

_DEVICE = re.compile(rf"auto|(?:{'|'.join(PROVIDERS)})(?::\d+)?|openvino:[A-Z]+(?:\.\d+)?")
_ACCELERATED = {"nvidia": "cuda", "amd": "rocm", "ascend": "cann"}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asks for.

    Attributes:
        runtime: one of `RUNTIMES`.
        device: `auto`, `cpu`, `cuda`, `tensorrt`, `rocm`, `coreml`, `cann`, `directml` (each with `:N` if there
            are several), or `openvino:` and OpenVINO's own name, e.g. `openvino:GPU`.
        precision: one of `ASKED`.
        threads: for computing; None: all cores that this process may use.
        static: compile for fixed input shapes, see `static_shapes`.
    """

    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    static: bool = False

    @classmethod
    def with_settings(
        cls, settings: "Settings", runtime: str, device: str, precision: str, threads: int | None
    ) -> Self:
        """A choice in which the settings say what is `auto` or None."""
        return cls(
            settings.runtime if runtime == "auto" else runtime,
            settings.device if device == "auto" else device,
            settings.precision if precision == "auto" else precision,
            settings.threads if threads is None else threads,
        )

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise _unknown("runtime", self.runtime, RUNTIMES)
        if self.precision not in ASKED:
            raise _unknown("precision", self.precision, ASKED)
        if not _DEVICE.fullmatch(self.device):
            raise _unknown("device", self.device, ("auto", *PROVIDERS, "cuda:1", "openvino:GPU"))
        if self.threads is not None and self.threads < 1:
            raise InvalidInput(f"threads is {self.threads}: it must be at least 1", value=self.threads, where="threads")

    @property
    def is_open(self) -> bool:
        """Whether it leaves the runtime or the precision to tuwen."""
        return self.runtime == AUTO or self.precision in (AUTO, FAST)


def _unknown(what: str, value: str, choices: Sequence[str]) -> InvalidInput:
    hint = f"choose one of: {', '.join(choices)}"
    return InvalidInput(f"unknown {what} {value!r}; {hint}", value=value, where=what, hint=hint)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is used, in every detail.

    Attributes:
        runtime: `onnxruntime` or `openvino`.
        device: e.g. `cpu`, `cuda:0`, `openvino:GPU`.
        file: which of the bundle's files are loaded.
        precision: what it computes in.
        threads: for computing on the CPU.
    """

    runtime: str
    device: str
    file: Precision
    precision: str
    threads: int


def make_plan(bundle: Bundle, choice: Choice) -> Plan:
    """The default plan for a choice: what is used as long as nothing has been measured on this machine.

    Raises:
        RuntimeUnavailable: the choice is not available on this machine, or in the bundle; the message lists what
            is.
    """
    runtime, device = _place(choice)
    wanted = choice.precision if choice.precision in COMPUTED else _default(bundle, runtime, device, choice.precision)
    native = _native(runtime, device, wanted)
    if wanted == "bf16" and wanted not in native:
        hint = f"choose one of: {', '.join(sorted(native))}"
        raise RuntimeUnavailable(
            f"{runtime} does not compute in bf16 on the device {device} of this machine; {hint}",
            value=wanted,
            where=device,
            hint=hint,
        )
    file = _file(bundle, runtime, wanted, native)
    if file is None:
        hint = f"choose one of: {', '.join(bundle.precisions)}; or export the model with --precision {wanted}"
        raise RuntimeUnavailable(
            f"the bundle {bundle.folder} has no file for {wanted} on {runtime} {device}; {hint}",
            value=wanted,
            where=bundle.folder,
            hint=hint,
        )
    precision = "fp32" if wanted == "fp16" and wanted not in native else wanted
    return Plan(runtime, device, file, precision, choice.threads or usable_cores())


def possible_plans(bundle: Bundle, choice: Choice) -> list[Plan]:
    """Every way to compute a bundle on the device of a choice, the most exact and the default runtime first.

    Raises:
        RuntimeUnavailable: the choice is not available on this machine, or in the bundle.
    """
    default = make_plan(bundle, choice)
    found: dict[tuple[str, str], Plan] = {}
    for precision in COMPUTED:
        for runtime in sorted(RUNTIMES[1:], key=lambda name: name != default.runtime):
            with suppress(RuntimeUnavailable):
                plan = make_plan(bundle, Choice(runtime, default.device, precision, choice.threads))
                found.setdefault((plan.runtime, plan.precision), plan)
    return list(found.values())


def open_session(bundle: Bundle, tower: Tower, plan: Plan, cache: Path | None) -> Session:
    """Load one tower. A graph whose rows depend on each other is given one row at a time.

    Args:
        bundle: the model.
        tower: which half.
        plan: how.
        cache: where compiled models are kept; None keeps nothing.

    Raises:
        RuntimeUnavailable: the plan does not work on this machine.
        BundleInvalid: the graph has no output that is an embedding.
    """
    graph = bundle.graphs[tower, plan.file]
    session: Session
    if plan.runtime == "openvino":
        session = OpenVinoSession(
            graph, device=plan.device, precision=plan.precision, threads=plan.threads, cache=cache
        )
    else:
        session = OnnxRuntimeSession(graph, device=plan.device, precision=plan.precision, threads=plan.threads)
    if read_graph(graph).depends_on_batch:
        session.inputs = tuple(_one_row(port) for port in session.inputs)
    return session


def _one_row(port: Port) -> Port:
    return replace(port, shape=(1, *port.shape[1:]))


def _place(choice: Choice) -> tuple[str, str]:
    if choice.device == "auto":
        return _best_place(choice.runtime)
    if choice.device == "cpu":
        return _best_cpu(choice.runtime), "cpu"
    runtime = "openvino" if choice.device.startswith("openvino") else "onnxruntime"
    if choice.runtime not in ("auto", runtime) or not _is_here(runtime, choice.device):
        raise _not_available(choice)
    if choice.device == "openvino:CPU":
        return runtime, "cpu"
    return runtime, f"{choice.device}:0" if choice.device in NUMBERED else choice.device


def _best_place(runtime: str) -> tuple[str, str]:
    """An accelerator, if the build of onnxruntime that uses it is installed; else the CPU."""
    seen = [_ACCELERATED[kind] for kind in accelerators() if kind in _ACCELERATED]
    if runtime != "openvino" and seen:
        usable = onnxruntime_here().devices
        for device in seen:
            if device in usable:
                return "onnxruntime", f"{device}:0"
    return _best_cpu(runtime), "cpu"


def _best_cpu(runtime: str) -> str:
    if runtime == "openvino":
        import_openvino()  # or the error says that it is missing
    if runtime != "auto":
        return runtime
    return "openvino" if find_spec("openvino") else "onnxruntime"  # there is no OpenVINO for every platform


def _is_here(runtime: str, device: str) -> bool:
    if runtime == "onnxruntime":
        return device.partition(":")[0] in onnxruntime_here().devices
    return device in openvino_here().devices


def _not_available(choice: Choice) -> RuntimeUnavailable:
    devices = "; ".join(
        f"{engine.name} {engine.version or '(not installed)'}: {', '.join(engine.devices) or 'none'}"
        for engine in (onnxruntime_here(), openvino_here())
    )
    asked = choice.device if choice.runtime == "auto" else f"{choice.device} with {choice.runtime}"
    message = f"the device {asked} is not available on this machine. Available devices: {devices}"
    hint = conflict()
    return RuntimeUnavailable(f"{message}. {hint}" if hint else message, value=choice.device, hint=hint)


def _native(runtime: str, device: str, wanted: str) -> frozenset[str]:
    """The precisions that a device computes in. OpenVINO, which takes long to load, is asked only if that matters."""
    if device == "cpu" and wanted in ("fp32", "int8"):
        return frozenset({"fp32", "int8"})
    if runtime == "openvino":
        return native_precisions(device)
    return frozenset({"fp32", "int8"} if device == "cpu" else {"fp32", "fp16", "int8"})


def _default(bundle: Bundle, runtime: str, device: str, asked: str) -> str:
    """The precision: fp32 on CPUs, fp16 on accelerators, int8 if the bundle has nothing else or `fast` is asked for."""
    report = bundle.manifest.verify.get("int8")
    if asked == FAST and report is not None and report.passed and "int8" in bundle.precisions:
        return "int8"
    too_large = any(name.endswith(FP16_OVERFLOWS) for name in bundle.manifest.facts)
    for wanted in ("fp32",) if device == "cpu" or too_large else ("fp16", "fp32"):
        native = _native(runtime, device, wanted)
        if wanted in native and _file(bundle, runtime, wanted, native):
            return wanted
    return "int8"


def _file(bundle: Bundle, runtime: str, wanted: str, native: frozenset[str]) -> Precision | None:
    """The file to load: fp16 weights are exact in fp32, and OpenVINO rounds fp32 weights to fp16 itself."""
    files: dict[str, tuple[Precision, ...]] = {
        "fp32": ("fp32", "fp16"),
        "bf16": ("fp32", "fp16"),
        "fp16": ("fp16", "fp32") if runtime == "openvino" and "fp16" in native else ("fp16",),
        "int8": ("int8",),
    }
    return next((file for file in files[wanted] if file in bundle.precisions), None)
