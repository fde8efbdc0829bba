"""ViT-B/32 at full size with random weights: int8 on both engines against PyTorch eager fp32, in turns.

    python benchmarks/int8.py --threads 2 --rounds 7 --json int8.json

First what is possible: the rates of this machine's fp32 and int8 matrix products, and so how many times as fast as
PyTorch an image tower could be whose products alone took time. The int8 products are those of the tower's layers at
batch 32, one after the other with nothing between them but rounding to 8 bits, on each engine; at batch 32 they take
their turns beside the tower, whose share of the faster one is the share of the ceiling. Then the tower itself, as it
is and with outlying
channels (6 of every layer norm by 50, what reads them by 1/50: the same function), and the worst cosine on
pictures that it was not calibrated on: photos of `--photos`, else drawn ones. Last 5 pictures and 50 different
captions, nothing kept from one round to the next, beside open_clip at 77 tokens and padded to the longest caption.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from encode import cut_ids, different_captions, flops, in_torch
from measuring import GEMM_FLOPS, finish, gemm, machine, table, take_turns
from parts.outliers import inject
from PIL import Image

import tuwen
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.exporting.export import export_towers
from tuwen.exporting.graph import Graph, save
from tuwen.exporting.int8 import quantized
from tuwen.exporting.samples import Photos, Samples, built_in, drawn
from tuwen.models.openclip import load
from tuwen.models.towers import Towers
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.onnxruntime import OnnxRuntimeSession
from tuwen.runtime.openvino import OpenVinoSession
from tuwen.runtime.session import Session

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "flickr8k_200" / "images"
BATCHES = (1, 32)
BARS = {"plain": {1: 4.5, 32: 3.2}, "outlying": {1: None, 32: 2.5}}
"""Times PyTorch that are wanted; the cosines wanted are 0.995 and 0.99."""
ROWS = 32 * 50
"""tokens of a batch of 32 images"""
CHAIN = (768, *(2304, 768, 3072, 768) * 4)
"""widths from product to product: those of four layers of ViT-B/32"""
CHAIN_FLOPS = 2 * ROWS * sum(k * n for k, n in pairwise(CHAIN))
ENGINES: dict[str, Callable[..., Session]] = {"OpenVINO": OpenVinoSession, "ONNX Runtime": OnnxRuntimeSession}
JOB = (5, 50)
"""Pictures and captions of the job; 8 times open_clip, and 2.5 times it padded to the longest, are wanted."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    towers = load("ViT-B-32")
    pictures = photos(arguments.photos, arguments.pictures)
    with tempfile.TemporaryDirectory() as folder:
        rates = ceilings(arguments.threads, arguments.rounds, Path(folder))
        say_floor(towers, rates)
        bundle = read_bundle(arguments.bundle) if arguments.bundle else exported(towers, pictures, Path(folder))
        tower_rows = image_rows(towers, bundle, pictures, arguments, Path(folder))
        job_rows = job(towers, bundle, pictures, arguments)
    print(table(tower_rows))
    print(table(job_rows))
    result = {"machine": machine(arguments.threads), "rates": rates, "image": tower_rows, "job": job_rows}
    finish(result, arguments.json)


def exported(towers: Towers, pictures: Sequence[Image.Image], folder: Path) -> Bundle:
    samples = Samples(pictures, [*different_captions(24, -1), *built_in().texts])
    return export_towers(towers, folder / "bundle", ("fp32", "int8"), samples)


def photos(folder: Path, count: int) -> Sequence[Image.Image]:
    if folder.is_dir():
        return Photos(sorted(folder.iterdir())[:count])
    print(f"no photos at {folder}: drawn pictures stand in for them")
    return drawn(count)


def ceilings(threads: int, rounds: int, folder: Path) -> dict[str, float]:
    """Operations a second of fp32 products in PyTorch, and of products at int8 on the faster engine."""
    products = int8_products(folder, threads)
    timings = take_turns({"fp32": gemm(), **products}, rounds)
    best = min(min(timings[name].rounds) for name in products)
    return {"fp32": GEMM_FLOPS / min(timings["fp32"].rounds), "int8": CHAIN_FLOPS / best}


def int8_products(folder: Path, threads: int) -> dict[str, Callable[[int], object]]:
    """The products of `CHAIN` in int8, each reading what the one before gave, on each engine."""
    path = folder / "products.onnx"
    if not path.exists():
        write_products(path)
    rows = np.random.default_rng(0).standard_normal((1, ROWS, CHAIN[0])).astype(np.float32)
    sessions = {name: kind(path, device="cpu", precision="int8", threads=threads) for name, kind in ENGINES.items()}
    return {
        f"products, {name}": lambda _, session=session: session.run({"x": rows}) for name, session in sessions.items()
    }


def write_products(path: Path) -> None:
    rng, helper, array = np.random.default_rng(0), onnx.helper, onnx.numpy_helper.from_array
    constants = [array(np.float32(0.03), "s"), array(np.uint8(128), "z")]
    nodes, last = [], "x"
    for turn, (k, n) in enumerate(pairwise(CHAIN)):
        weights = rng.integers(-63, 64, (k, n), dtype=np.int8)
        constants += [array(weights, f"w{turn}"), array(np.zeros(n, np.int8), f"wz{turn}")]
        constants.append(array(np.full(n, 0.02 / np.sqrt(k), np.float32), f"ws{turn}"))
        nodes.append(helper.make_node("QuantizeLinear", [last, "s", "z"], [f"q{turn}"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{turn}", "s", "z"], [f"d{turn}"]))
        nodes.append(
            helper.make_node("DequantizeLinear", [f"w{turn}", f"ws{turn}", f"wz{turn}"], [f"dw{turn}"], axis=1)
        )
        nodes.append(helper.make_node("MatMul", [f"d{turn}", f"dw{turn}"], [f"y{turn}"]))
        last = f"y{turn}"
    nodes.append(helper.make_node("ReduceMax", [last, "axes"], ["out"], keepdims=0))
    constants.append(array(np.array([1], np.int64), "axes"))
    values = [
        helper.make_tensor_value_info("x", 1, [1, ROWS, CHAIN[0]]),
        helper.make_tensor_value_info("out", 1, [1, CHAIN[-1]]),
    ]
    graph = helper.make_graph(nodes, "products", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def say_floor(towers: Towers, rates: dict[str, float]) -> None:
    """The first lines: what the products alone allow."""
    operations = flops(towers.vision, torch.zeros(1, 3, *towers.image_spec.size))
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for name, by in (("fp32", "PyTorch"), ("int8", "the faster engine")):
        print(
            f"floor: {operations / 1e9:.1f} GFLOP a picture at {rates[name] / 1e9:.0f} GFLOP/s in {name} ({by}): "
            f"{1000 * operations / rates[name]:.1f} ms"
        )
    print(f"floor: int8 {rates['int8'] / rates['fp32']:.2f} times as fast, were there nothing but products")
    print(f"floor: OpenVINO says of this CPU: {', '.join(capabilities)}")


def image_rows(
    towers: Towers, bundle: Bundle, pictures: Sequence[Image.Image], arguments: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """The image tower by both contenders, with and without outlying channels."""
    pixels = towers.to_pixels(pictures)
    outlying = onnx.load(bundle.graphs["vision", "fp32"])
    print(f"outlying channels: in {inject(outlying)} layer norms")
    calibration, unseen = pixels[::2], pixels[1::2]
    feeds = [{"pixel_values": row[None]} for row in calibration[:32]]
    small = quantized(Graph(onnx_ir.from_proto(outlying), 0, 0), feeds, [{"pixel_values": unseen[:16]}])
    save(small.graph, folder / "outlying.onnx")
    files = {"plain": bundle.graphs["vision", "int8"], "outlying": folder / "outlying.onnx"}
    kept = {"plain": bundle.manifest.facts["vision_int8_kept_fp32"], "outlying": ", ".join(small.kept)}
    expected, rows = in_torch(towers.vision, unseen), []
    onnx.save(outlying, folder / "full.onnx")
    same = OpenVinoSession(folder / "full.onnx", device="cpu", precision="fp32", threads=arguments.threads)
    print(f"outlying channels: fp32 moves by {np.abs(same.run({'pixel_values': unseen}) - expected).max():.1e}")
    sessions: dict[tuple[str, str], Session] = {
        (name, engine): kind(path, device="cpu", precision="int8", threads=arguments.threads)
        for name, path in files.items()
        for engine, kind in ENGINES.items()
    }
    cosines = {
        key: float((session.run({"pixel_values": unseen}) * expected).sum(axis=1).min())
        for key, session in sessions.items()
    }
    operations = flops(towers.vision, torch.zeros(1, 3, *towers.image_spec.size))
    for batch in BATCHES:
        given = np.resize(pixels, (batch, *pixels.shape[1:]))
        contenders: dict[Any, Callable[[int], object]] = {"PyTorch": lambda _, x=given: in_torch(towers.vision, x)}
        products = int8_products(folder, arguments.threads) if batch == BATCHES[-1] else {}
        contenders |= products
        for key, session in sessions.items():
            contenders[key] = lambda _, session=session, x=given: session.run({"pixel_values": x})
        timings = take_turns(contenders, arguments.rounds)
        for (name, engine), cosine in cosines.items():
            timing = timings[name, engine]
            ceilings = [timing.faster_than(timings[product]) for product in products]
            rows.append(
                {
                    "channels": name,
                    "batch": batch,
                    "with": engine,
                    "ms": timing.median * 1000,
                    "pytorch_ms": timings["PyTorch"].median * 1000,
                    "times_pytorch": timing.faster_than(timings["PyTorch"]),
                    "wanted": BARS[name][batch],
                    "share_of_ceiling": min(ceilings) * operations * batch / CHAIN_FLOPS if ceilings else None,
                    "worst_cosine": cosine,
                    "kept_fp32": len(str(kept[name]).split(", ")) if kept[name] else 0,
                }
            )
    return rows


def job(
    towers: Towers, bundle: Bundle, pictures: Sequence[Image.Image], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """5 pictures and 50 captions that are others in each round, from pictures and words on."""
    images, (count, captions) = list(pictures[: JOB[0]]), JOB
    texts = [different_captions(captions, seed) for seed in range(arguments.rounds + 1)]

    def by(encoder: Any) -> Callable[[int], object]:  # noqa: ANN401
        return lambda turn: encoder.encode_images(images) @ encoder.encode_texts(texts[turn]).T

    def in_pytorch(ids: Callable[[int], np.ndarray]) -> Callable[[int], object]:
        return lambda turn: in_torch(towers.vision, towers.to_pixels(images)) @ in_torch(towers.text, ids(turn)).T

    contenders = {
        "open_clip, 77 tokens": in_pytorch(lambda turn: towers.to_tokens(texts[turn]).ids),
        "open_clip, longest": in_pytorch(lambda turn: cut_ids(towers, texts[turn])),
        "tuwen auto": by(tuwen.load(str(bundle.folder), threads=arguments.threads, measure=True)),
        "tuwen int8": by(tuwen.load(str(bundle.folder), precision="int8", threads=arguments.threads)),
    }
    timings = take_turns(contenders, arguments.rounds)
    full, cut = timings["open_clip, 77 tokens"], timings["open_clip, longest"]
    return [
        {
            "pictures": count,
            "captions": captions,
            "with": name,
            "ms": timing.median * 1000,
            "times_77_tokens": timing.faster_than(full),
            "times_longest": timing.faster_than(cut),
        }
        for name, timing in timings.items()
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender")
    parser.add_argument("--rounds", type=int, default=7, help="how often each contender takes its turn")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a folder of photos")
    parser.add_argument("--pictures", type=int, default=64, help="how many of them; every second one calibrates")
    parser.add_argument("--bundle", type=Path, help="what an earlier export of the same weights gave")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
