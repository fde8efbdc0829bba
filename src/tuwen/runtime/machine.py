"""What this machine has: cores, CPU features, precisions, accelerators, runtimes and their devices.

`tuwen doctor` shows these facts, `selection.py` chooses by them. Nothing is run on any device to find them out.
"""

import math
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import import_onnxruntime, import_openvino, openvino_name
from tuwen.runtime.onnxruntime import devices_of

FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "avx512_bf16": ("avx512_bf16",),
    "amx": ("amx_tile",),
    "amx_bf16": ("amx_bf16",),
    "neon": ("asimd",),
    "bf16": ("bf16",),
    "i8mm": ("i8mm",),
}
"""CPU features that matter to these models, and their flags in `/proc/cpuinfo` (x86, then Arm)"""

BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""the features with which a CPU computes in bf16; others only emulate it"""
PRECISIONS = {"FP32": "fp32", "BF16": "bf16", "FP16": "fp16", "INT8": "int8"}
"""OpenVINO's names of the precisions that a device computes in"""

ORT_BUILDS = {
    "onnxruntime": "CPUs, CoreML",
    "onnxruntime-gpu": "NVIDIA GPUs",
    "onnxruntime-rocm": "AMD GPUs",
    "onnxruntime-migraphx": "AMD GPUs",
    "onnxruntime-directml": "GPUs on Windows",
    "onnxruntime-openvino": "Intel devices",
    "onnxruntime-cann": "Ascend NPUs",
    "onnxruntime-qnn": "Qualcomm NPUs",
}
"""packages that install the module `onnxruntime`, each for other hardware; two of them overwrite each other"""


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime's package.

    Attributes:
        name: `onnxruntime` or `openvino`.
        version: None if it is not installed or does not load.
        devices: what it can run on here, as `--device` takes it; empty if it does not load.
        missing: why it does not load; empty if it does.
    """

    name: str
    version: str | None
    devices: tuple[str, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that `tuwen doctor` shows.

    Attributes:
        cpu: the processor's name.
        cores: how many this process may use: its affinity, and the quota of its container.
        features: those of `FEATURES` that it has.
        precisions: what the CPU computes in without emulation; empty without OpenVINO, which reports them.
        accelerators: hardware whose driver is loaded, whether or not a runtime can use it, e.g. `nvidia`.
        engines: both runtimes.
        conflict: packages that overwrite each other, and the way out; usually empty.
        advice: a pip command that makes better use of this machine; usually empty.
    """

    cpu: str
    cores: int
    features: tuple[str, ...]
    precisions: tuple[str, ...]
    accelerators: tuple[str, ...]
    engines: tuple[Engine, ...]
    conflict: str
    advice: str


def look() -> Machine:
    """The facts about this machine. Takes about half a second: both runtimes are imported."""
    seen, engines = accelerators(), (onnxruntime_here(), openvino_here())
    return Machine(
        cpu=cpu_name(),
        cores=usable_cores(),
        features=cpu_features(),
        precisions=tuple(sorted(native_precisions("cpu"))) if engines[1].version else (),
        accelerators=seen,
        engines=engines,
        conflict=conflict(),
        advice=_advice(seen, engines),
    )


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its container's quota; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(allowed, _quota(Path("/"))))


def peak_mib() -> float | None:
    """Peak resident memory of this process in MiB; None if the system does not report it."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    if found:  # on Linux, getrusage starts with the number of the parent process
        return int(found[1]) / 2**10
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


_assumed_features: tuple[str, ...] | None = None


@contextmanager
def assumed_cpu_features(*features: str) -> Iterator[None]:
    """Within the block, choose as on a CPU with these of `FEATURES`, in place of those that this one reports.

    It changes what is chosen and shown, not what the CPU can do. For tests, and to see what another machine does.
    """
    global _assumed_features  # noqa: PLW0603  (a fact about the process, like the CPU itself)
    before, _assumed_features = _assumed_features, features
    try:
        yield
    finally:
        _assumed_features = before


def native_precisions(device: str) -> frozenset[str]:
    """The precisions that a device computes in without emulation, e.g. `fp32`, `bf16`; as OpenVINO reports them.

    Raises:
        RuntimeUnavailable: OpenVINO cannot be loaded, or has no such device.
    """
    name = openvino_name(device)
    try:
        listed = import_openvino().Core().get_property(name, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise RuntimeUnavailable(f"openvino has no device {name} on this machine", value=device) from error
    native = {PRECISIONS[word] for word in listed if word in PRECISIONS}
    if name != "CPU":
        return frozenset(native)
    features = cpu_features()
    if _assumed_features is not None:
        native |= {"bf16"}
    if (features or _assumed_features is not None) and not BF16.intersection(features):
        native.discard("bf16")  # OpenVINO also lists bf16 where AVX-512 emulates it
    return frozenset(native)


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of `FEATURES` that the CPU has. Empty if the system does not list them (anything but Linux)."""
    if _assumed_features is not None:
        return _assumed_features
    flags = set(re.findall(r"^(?:flags|Features)\s*:(.*)$", _text(cpuinfo), re.MULTILINE)[:1])
    words = set(" ".join(flags).split())
    return tuple(name for name, marks in FEATURES.items() if words.intersection(marks))


def cpu_name() -> str:
    """The CPU's model name, or at least its family."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def accelerators(root: Path = Path("/")) -> tuple[str, ...]:
    """Accelerators whose driver is loaded: `nvidia`, `amd`, `ascend`, `intel-npu`, `apple`."""
    here = {
        "nvidia": any((root / "proc/driver/nvidia/gpus").glob("*")) or any((root / "dev").glob("nvidia[0-9]*")),
        "amd": (root / "dev/kfd").exists(),
        "ascend": any((root / "dev").glob("davinci[0-9]*")),
        "intel-npu": any((root / "dev/accel").glob("accel*")),
        "apple": sys.platform == "darwin" and platform.machine() == "arm64",
    }
    return tuple(name for name, available in here.items() if available)


def onnxruntime_here() -> Engine:
    """ONNX Runtime, with the devices of its build's providers."""
    try:
        package = import_onnxruntime()
    except RuntimeUnavailable as error:
        return Engine("onnxruntime", None, (), str(error))
    return Engine("onnxruntime", package.__version__, devices_of(package.get_available_providers()), "")


def openvino_here() -> Engine:
    """OpenVINO, with the devices that its plugins find."""
    try:
        package = import_openvino()
    except RuntimeUnavailable as error:
        return Engine("openvino", None, (), str(error))
    found = package.Core().available_devices
    return Engine("openvino", package.__version__.split("-")[0], tuple(f"openvino:{name}" for name in found), "")


def engine_versions() -> dict[str, str]:
    """The installed version of each engine's package, by its name. Nothing is imported."""
    return {name: version(name) for name in (*ORT_BUILDS, "openvino") if _installed(name)}


def conflict() -> str:
    """Several builds of ONNX Runtime that are installed together, and the way out; empty if there are not."""
    builds = sorted(filter(_installed, ORT_BUILDS))
    if len(builds) < 2:
        return ""
    wanted = next(name for name in builds if name != "onnxruntime")
    return (
        f"{' and '.join(builds)} are installed together and overwrite each other's files: "
        f"pip uninstall -y {' '.join(builds)} && pip install {wanted}"
    )


def _advice(seen: Iterable[str], engines: Iterable[Engine]) -> str:
    """The pip command for an accelerator that no installed runtime can use."""
    devices = {device.split(":")[0] for engine in engines for device in engine.devices}
    if "nvidia" in seen and "cuda" not in devices:
        return "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    if "amd" in seen and "rocm" not in devices:
        return "pip uninstall -y onnxruntime && pip install onnxruntime-migraphx"
    if "ascend" in seen and "cann" not in devices:
        return "pip uninstall -y onnxruntime && pip install onnxruntime-cann"
    return "pip install openvino" if "openvino" not in devices else ""


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _quota(root: Path) -> int:
    """The container's CPU quota in cores, rounded up; `sys.maxsize` without a quota."""
    groups = re.findall(r"^0::(/.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    folders = [root / "sys/fs/cgroup", *((root / "sys/fs/cgroup" / group.strip("/")) for group in groups)]
    found = [_text(folder / "cpu.max").split() for folder in folders]  # version 2: "quota period", or "max period"
    old = root / "sys/fs/cgroup/cpu"  # version 1: -1 is no limit
    found.append([_text(old / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")])
    limits = [int(pair[0]) / int(pair[1]) for pair in found if len(pair) == 2 and all(map(str.isdigit, pair))]
    return math.ceil(min(limits, default=sys.maxsize))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
