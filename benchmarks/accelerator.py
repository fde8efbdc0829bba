"""A model on an accelerator: export, compare with the CPU, images and texts per second by batch, share of the peak.

    python benchmarks/accelerator.py --device cuda --device tensorrt --json accelerator.json
    python benchmarks/accelerator.py --device cpu --quick

ViT-L/14 at full size with random weights unless `--source` says otherwise, exported in fp32, fp16 and int8. Each target
(device and precision) first encodes photos and captions, and its vectors are compared with those of fp32 on the CPU.
Then all targets take turns, batch by batch. The peak is the rate of large matrix products in fp16 by the same runtime
on the same device, with the data already there. At the end: what `auto` chooses on this machine, and whether any exact
target (worst cosine at least 0.999) is faster.

Needs a build of ONNX Runtime for the device: `pip install 'tuwen[export]' onnxruntime-gpu`, without onnxruntime.
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from encode import different_captions
from measuring import finish, machine, table, take_turns

import tuwen
from tuwen.bench.bench import Effort, Request, measure
from tuwen.bench.operations import count_flops
from tuwen.bench.targets import Target, bundle_targets
from tuwen.bench.workloads import Material, photo
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.exporting.export import export_towers
from tuwen.models.openclip import load
from tuwen.runtime.machine import usable_cores
from tuwen.runtime.onnxruntime import OnnxRuntimeSession

EXACT = 0.999
"""the worst cosine at which a target counts as exact"""
GOAL = 0.6
"""the share of the peak that the image tower is to reach"""
COMPARED = 32
"""photos and captions whose vectors are compared with fp32 on the CPU"""
SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 16, "patch_size": 16, "image_size": 64},
    "text_cfg": {"layers": 2, "width": 64, "heads": 4},
}
"""what `--quick` changes in the architecture"""


@dataclass(frozen=True)
class Measured:
    """One target: how close it is to fp32 on the CPU, and its rates by part and batch."""

    target: Target
    cosine: float
    rates: dict[tuple[str, int], float]

    @property
    def name(self) -> str:
        return f"{self.target.runtime} {self.target.device} {self.target.precision}"


def main() -> None:
    arguments = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        bundle = exported(arguments, Path(folder) / "bundle")
        material = Material([photo(seed) for seed in range(COMPARED)], different_captions(max(arguments.batches), 0))
        targets = [
            target for device in arguments.device for target in bundle_targets(bundle, device=device, threads=None)
        ]
        rounds = 2 if arguments.quick else 5
        peaks = {device: peak(device, Path(folder), rounds, quick=arguments.quick) for device in arguments.device}
        effort = Effort(arguments.seconds, least=2, most=2 if arguments.quick else 20)
        found = measured(bundle, targets, material, Request((), arguments.batches, effort, material))
        rows = rows_of(bundle, found, peaks)
        chosen = tuwen.load(str(bundle.folder))
        auto = f"{chosen.runtime} {chosen.precision}"
    exact = [one for one in found if one.cosine >= EXACT and one.target.precision != "int8"]  # `auto` never takes int8
    faster = [one.name for one in exact if is_faster(one, found, auto)]
    print(table(rows))
    print(table([{"auto": auto, "faster exact targets": ", ".join(faster) or "none"}]))
    best = max((row["share_of_peak"] or 0.0 for row in rows if row["part"] == "image"), default=0.0)
    print(f"image tower: {best:.0%} of the peak at best, {GOAL:.0%} wanted")
    result = {"machine": machine(usable_cores()), "model": bundle.manifest.name, "peaks": peaks, "rows": rows}
    finish({**result, "auto": auto, "faster_exact_targets": faster}, arguments.json)


def exported(arguments: argparse.Namespace, folder: Path) -> Bundle:
    """The bundle of `--bundle`, or a new one with random weights."""
    if arguments.bundle is not None:
        return read_bundle(arguments.bundle)
    towers = load(arguments.architecture, overrides=SMALL if arguments.quick else None)
    return export_towers(towers, folder, ("fp32", "fp16", "int8"))


def peak(device: str, folder: Path, rounds: int, *, quick: bool) -> float | None:
    """Operations a second of large fp16 matrix products on a device of ONNX Runtime; None for other runtimes."""
    if device.startswith("openvino"):
        return None
    size, times = (256, 4) if quick else (8192, 16)
    precision = "fp32" if device == "cpu" else "fp16"
    graph = folder / f"products-{device.replace(':', '-')}.onnx"
    onnx.save(products(size, times, onnx.TensorProto.FLOAT if device == "cpu" else onnx.TensorProto.FLOAT16), graph)
    session = OnnxRuntimeSession(graph, device=device, precision=precision, threads=usable_cores())
    feeds = {"x": np.ones((1, 1), dtype=np.float32)}
    timing = take_turns({"products": lambda _: session.run(feeds)}, rounds)["products"]
    return 2 * times * size**3 / min(timing.rounds)


def products(size: int, times: int, dtype: int) -> onnx.ModelProto:
    """A number to a number through products of square matrices, which stay on the device."""
    helper, rng = onnx.helper, np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    weights = (rng.standard_normal((size, size)) / np.sqrt(size)).astype(kind)
    nodes = [
        helper.make_node("Cast", ["x"], ["number"], to=dtype),
        helper.make_node("Mul", ["weights", "number"], ["y0"]),
        *(helper.make_node("MatMul", [f"y{turn}", "weights"], [f"y{turn + 1}"]) for turn in range(times)),
        helper.make_node("ReduceMax", [f"y{times}"], ["most"], keepdims=1),
        helper.make_node("Cast", ["most"], ["out"], to=onnx.TensorProto.FLOAT),
    ]
    value = partial(helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT, shape=[1, 1])
    graph = helper.make_graph(
        nodes, "products", [value("x")], [value("out")], [onnx.numpy_helper.from_array(weights, "weights")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def measured(bundle: Bundle, targets: Sequence[Target], material: Material, request: Request) -> list[Measured]:
    """Every target's worst cosine and rates."""
    reference = bundle_targets(bundle, runtimes=("onnxruntime",), precisions=("fp32",), device="cpu")[0]
    expected = vectors(reference, material)
    cosines = {target: float((vectors(target, material) * expected).sum(axis=1).min()) for target in targets}
    rates: dict[Target, dict[tuple[str, int], float]] = {target: {} for target in targets}
    flops = count_flops(bundle)
    for part in ("image", "text"):
        for batch in request.batches:
            case = measure(part, batch, targets, request, flops)
            for target, seconds in case.seconds.items():
                rates[target][part, batch] = batch / float(np.median(seconds[:, 1]))
    return [Measured(target, cosines[target], rates[target]) for target in targets]


def vectors(target: Target, material: Material) -> np.ndarray:
    """The vectors of photos and captions."""
    images = target.images(target.to_pixels(material.pictures(COMPARED)))
    return np.concatenate([images, target.texts(target.to_tokens(material.texts(COMPARED, 0)))])


def rows_of(bundle: Bundle, found: Sequence[Measured], peaks: dict[str, float | None]) -> list[dict[str, Any]]:
    """The table: a row for each part, batch and target."""
    operations = count_flops(bundle)("vision", [1])
    rows = []
    for one in found:
        most = peaks.get(one.target.device) or peaks.get(one.target.device.partition(":")[0])
        for (part, batch), rate in one.rates.items():
            share = rate * operations / most if part == "image" and most and operations else None
            row = {"part": part, "batch": batch, "with": one.name, "per_second": rate}
            rows.append({**row, "share_of_peak": share, "worst_cosine": one.cosine})
    return sorted(rows, key=lambda row: (row["part"], row["batch"]))


def is_faster(one: Measured, found: Sequence[Measured], auto: str) -> bool:
    """Whether a target is over 3 % faster than what `auto` chose, at the largest batch of images."""
    most = max(batch for _, batch in one.rates)
    chosen = [other.rates["image", most] for other in found if other.target.name == auto]
    return bool(chosen) and one.rates["image", most] > 1.03 * max(chosen)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", action="append", help="cuda, tensorrt, openvino:GPU, cpu; repeatable (cuda)")
    parser.add_argument("--architecture", default="ViT-L-14", help="of open_clip, with random weights")
    parser.add_argument("--bundle", type=Path, help="a bundle instead")
    parser.add_argument("--seconds", type=float, default=4, help="for each batch size, all targets together")
    parser.add_argument("--quick", action="store_true", help="a small model, two batch sizes, two rounds")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    arguments.device = arguments.device or ["cuda"]
    arguments.batches = (1, 4) if arguments.quick else tuple(2**power for power in range(11))
    return arguments


if __name__ == "__main__":
    main()
