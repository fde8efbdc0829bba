import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuwen.errors import RuntimeUnavailable
from tuwen.runtime import machine
from tuwen.runtime.machine import (
    Engine,
    accelerators,
    assumed_cpu_features,
    conflict,
    cpu_features,
    look,
    native_precisions,
    usable_cores,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_this_machine() -> None:
    here = look()
    assert here.cpu
    assert here.cores == usable_cores() >= 1
    assert [engine.name for engine in here.engines] == ["onnxruntime", "openvino"]
    for engine in here.engines:
        assert engine.version
        assert engine.version[0].isdigit()
        assert not engine.missing
    assert "cpu" in here.engines[0].devices
    assert "openvino:CPU" in here.engines[1].devices
    assert "fp32" in here.precisions
    assert set(here.features) <= set(machine.FEATURES)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux'")
def test_cores_are_no_more_than_the_affinity_allows() -> None:
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})"
    code = f"{one}; from tuwen.runtime.machine import usable_cores; print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, sys.maxsize),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, sys.maxsize),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        (
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"},
            3,
        ),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            sys.maxsize,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_the_quota_of_a_container(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert machine._quota(write(tmp_path, files)) == cores


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        (
            "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 amx_tile\n",
            ("avx2", "avx512", "vnni", "avx512_bf16", "amx", "amx_bf16"),
        ),
        ("flags\t\t: fpu avx2 fma\n", ("avx2",)),
        ("Features\t: fp asimd i8mm bf16\n", ("neon", "bf16", "i8mm")),
        ("", ()),
    ],
)
def test_features(cpuinfo: str, features: tuple[str, ...], tmp_path: Path) -> None:
    assert cpu_features(write(tmp_path, {"cpuinfo": cpuinfo}) / "cpuinfo") == features


@pytest.mark.parametrize("features", [(), ("avx2",), ("avx2", "avx512", "vnni")])
def test_a_cpu_without_bf16_instructions_does_not_compute_in_bf16(features: tuple[str, ...]) -> None:
    with assumed_cpu_features(*features):
        assert look().features == cpu_features() == features
        assert "bf16" not in native_precisions("cpu")
        assert {"fp32", "int8"} <= set(look().precisions)


@pytest.mark.parametrize("feature", sorted(machine.BF16))
def test_a_cpu_with_bf16_instructions_computes_in_bf16(feature: str) -> None:
    before = native_precisions("cpu")
    with assumed_cpu_features("avx2", feature):
        assert native_precisions("cpu") == before | {"bf16"}
        assert "bf16" in look().precisions
    assert native_precisions("cpu") == before


def test_a_device_that_is_not_there_has_no_precisions() -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        native_precisions("openvino:NONE")
    assert caught.value.value == "openvino:NONE"


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("proc/driver/nvidia/gpus/0000:01:00.0/information", "nvidia"),
        ("dev/nvidia0", "nvidia"),
        ("dev/kfd", "amd"),
        ("dev/davinci0", "ascend"),
        ("dev/accel/accel0", "intel-npu"),
    ],
)
def test_accelerators_are_told_by_their_drivers(file: str, kind: str, tmp_path: Path) -> None:
    assert kind not in accelerators(tmp_path)
    assert kind in accelerators(write(tmp_path, {file: ""}))


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"onnxruntime"}, ""),
        ({"onnxruntime-gpu"}, ""),
        (
            {"onnxruntime", "onnxruntime-gpu"},
            "onnxruntime and onnxruntime-gpu are installed together and overwrite each other's files: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        ),
    ],
)
def test_builds_of_onnxruntime_installed_together(
    installed: set[str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_installed", installed.__contains__)
    assert conflict() == found


def test_what_is_installed_is_read_from_the_packages_themselves() -> None:
    assert machine._installed("onnxruntime")
    assert not machine._installed("onnxruntime-of-nobody")


@pytest.mark.parametrize(
    ("seen", "devices", "line"),
    [
        (("nvidia",), ("cpu", "openvino:CPU"), "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"),
        (("nvidia",), ("cpu", "cuda", "openvino:CPU"), ""),
        (("amd",), ("cpu", "openvino:CPU"), "pip uninstall -y onnxruntime && pip install onnxruntime-migraphx"),
        (("ascend",), ("cpu", "openvino:CPU"), "pip uninstall -y onnxruntime && pip install onnxruntime-cann"),
        ((), ("cpu", "openvino:CPU"), ""),
        ((), ("cpu",), "pip install openvino"),
    ],
)
def test_the_one_pip_line(seen: tuple[str, ...], devices: tuple[str, ...], line: str) -> None:
    assert machine._advice(seen, [Engine("any", "1", devices, "")]) == line


def test_an_engine_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = machine.onnxruntime_here()
    assert (engine.version, engine.devices) == (None, ())
    assert "pip install onnxruntime" in engine.missing
