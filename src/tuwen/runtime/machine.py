"""What this machine has: cores, CPU features, accelerators, runtimes with their devices. Facts for `tuwen doctor`.

Looks and asks; runs nothing on any device. Does not know which of it is chosen: see `plan.py`.
"""

import math
import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import import_onnxruntime, import_openvino

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
"""What matters to these models, and the flags in `/proc/cpuinfo` that say so (x86, then Arm)."""

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
"""The packages that install the module `onnxruntime`, each for other hardware: two overwrite each other."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime's package.

    Attributes:
        name: `onnxruntime` or `openvino`.
        version: None where it is not installed or does not load.
        devices: what it can run on here, as `--device` takes it; empty where it does not load.
        missing: why it does not load; empty where it does.
    """

    name: str
    version: str | None
    devices: tuple[str, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts.

    Attributes:
        cpu: the processor's name.
        cores: how many this process may use: its affinity, and the quota of its container.
        features: those of `FEATURES` that it has.
        precisions: what the CPU computes in by itself; empty without OpenVINO, which knows.
        accelerators: hardware that is here, whether or not anything can use it, e.g. `nvidia`.
        engines: both runtimes.
        conflict: packages that overwrite each other, and the way out; empty where all is well.
        advice: the one pip line that makes better use of this machine; empty where there is none.
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
    """Look at this machine. Takes about half a second: both runtimes are imported."""
    from tuwen.runtime.openvino import native_precisions

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
    """Cores that this process may use: never more than its affinity and its container's quota allow. At least 1."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(allowed, _quota(Path("/"))))


def peak_mib() -> float | None:
    """The most memory that this process has had resident so far, in MiB; None where the system does not say."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", _text(Path("/proc/self/status")), re.MULTILINE)
    if found:  # getrusage's number begins, on Linux, with that of the process that started this one
        return int(found[1]) / 2**10
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of `FEATURES` that the processor has. Empty where the system does not list them (not Linux)."""
    flags = set(re.findall(r"^(?:flags|Features)\s*:(.*)$", _text(cpuinfo), re.MULTILINE)[:1])
    words = set(" ".join(flags).split())
    return tuple(name for name, marks in FEATURES.items() if words.intersection(marks))


def cpu_name() -> str:
    """The processor's name, as its maker or at least its family calls it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def accelerators(root: Path = Path("/")) -> tuple[str, ...]:
    """Kinds of accelerator whose driver is loaded here: `nvidia`, `amd`, `ascend`, `intel-npu`, `apple`."""
    here = {
        "nvidia": any((root / "proc/driver/nvidia/gpus").glob("*")) or any((root / "dev").glob("nvidia[0-9]*")),
        "amd": (root / "dev/kfd").exists(),
        "ascend": any((root / "dev").glob("davinci[0-9]*")),
        "intel-npu": any((root / "dev/accel").glob("accel*")),
        "apple": sys.platform == "darwin" and platform.machine() == "arm64",
    }
    return tuple(name for name, is_here in here.items() if is_here)


def onnxruntime_here() -> Engine:
    """ONNX Runtime: its build's providers, as devices."""
    from tuwen.runtime.onnxruntime import devices_of

    try:
        package = import_onnxruntime()
    except RuntimeUnavailable as error:
        return Engine("onnxruntime", None, (), str(error))
    return Engine("onnxruntime", package.__version__, devices_of(package.get_available_providers()), "")


def openvino_here() -> Engine:
    """OpenVINO: the devices that its plugins find."""
    try:
        package = import_openvino()
    except RuntimeUnavailable as error:
        return Engine("openvino", None, (), str(error))
    found = package.Core().available_devices
    return Engine("openvino", package.__version__.split("-")[0], tuple(f"openvino:{name}" for name in found), "")


def conflict() -> str:
    """Several builds of ONNX Runtime installed together, and the way out. Empty where all is well."""
    builds = sorted(filter(_installed, ORT_BUILDS))
    if len(builds) < 2:
        return ""
    wanted = next(name for name in builds if name != "onnxruntime")
    return (
        f"{' and '.join(builds)} are installed together and overwrite each other's files: "
        f"pip uninstall -y {' '.join(builds)} && pip install {wanted}"
    )


def _advice(seen: Iterable[str], engines: Iterable[Engine]) -> str:
    """The accelerator is there, the runtime that uses it is not."""
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
    """Whole cores that the container's CPU quota comes to, rounded up; a great number where there is none."""
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
