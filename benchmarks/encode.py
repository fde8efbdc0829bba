"""ViT-B/32 at full size with random weights: tuwen's runtimes against open_clip in PyTorch eager, in turns.

    python benchmarks/encode.py --threads 2 --rounds 7 --json encode.json

Pictures are pixels already, captions are text: 6 to 14 words, all different, tokenised by each contender itself.
"PyTorch" reads captions as open_clip pads them, 77 tokens; "PyTorch cut" is the same model given each batch cut at
its longest caption, which open_clip itself does not do.
The floor is what the matrix products alone would take at this machine's best measured fp32 rate.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import GEMM_FLOPS, Timing, finish, gemm, machine, table, take_turns
from torch.utils.flop_counter import FlopCounterMode

import tuwen
from tuwen.exporting.export import export_towers
from tuwen.exporting.graph import plain_attention
from tuwen.models.openclip import load
from tuwen.models.towers import Towers

IMAGE_BATCHES = (1, 8, 32)
TEXT_BATCHES = (1, 8, 64)
WORDS = (
    *("a", "the", "two", "three", "small", "large", "old", "young", "red", "green", "blue", "black", "wooden"),
    *("dog", "cat", "bird", "horse", "child", "woman", "man", "boat", "train", "house", "tree", "flower", "street"),
    *("river", "mountain", "beach", "snow", "rain", "night", "sky", "water", "grass", "table", "chair", "running"),
    *("sitting", "sleeping", "playing", "walking", "standing", "near", "under", "over", "behind", "with", "on"),
)


@dataclass(frozen=True)
class Case:
    """One batch size of pictures or captions.

    Attributes:
        what: `images` or `captions`.
        batch: how many at a time.
        timings: of each contender.
        gemm: of matrix products alone, in the same rounds.
        flops: operations of one batch's matrix products; captions each at their own length.
    """

    what: str
    batch: int
    timings: dict[str, Timing]
    gemm: Timing
    flops: float


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    towers = load("ViT-B-32")
    with tempfile.TemporaryDirectory() as folder:
        export_towers(towers, Path(folder) / "bundle")
        encoders = {
            name: tuwen.load(str(Path(folder) / "bundle"), threads=arguments.threads, **choice)
            for name, choice in CHOICES.items()
        }
        cases = [images(towers, encoders, batch, arguments.rounds) for batch in IMAGE_BATCHES]
        cases += [captions(towers, encoders, batch, arguments.rounds) for batch in TEXT_BATCHES]
    rate = GEMM_FLOPS / min(second for case in cases for second in case.gemm.rounds)
    rows = [row for case in cases for row in described(case, rate)]
    print(f"fp32 matrix products: {rate / 1e9:.0f} GFLOP/s with {arguments.threads} threads")
    print(f"auto computes in {encoders['auto'].precision}")
    print(table(rows))
    finish({"machine": machine(arguments.threads), "gemm_gflops": rate / 1e9, "rows": rows}, arguments.json)


CHOICES: dict[str, dict[str, Any]] = {
    "onnxruntime fp32": {"runtime": "onnxruntime", "precision": "fp32"},
    "openvino fp32": {"runtime": "openvino", "precision": "fp32"},
    "auto": {},
}


def images(towers: Towers, encoders: dict[str, Any], batch: int, rounds: int) -> Case:
    """Pixels to vectors."""
    pixels = np.random.default_rng(0).standard_normal((batch, 3, 224, 224), dtype=np.float32)
    contenders: dict[str, Callable[[int], object]] = {"PyTorch": lambda _: in_torch(towers.vision, pixels)}
    for name, encoder in encoders.items():
        contenders[name] = lambda _, encoder=encoder: encoder.encode_pixels(pixels)
    timings = take_turns(contenders | {"gemm": gemm()}, rounds)
    return Case("images", batch, timings, timings.pop("gemm"), flops(towers.vision, torch.from_numpy(pixels)))


def captions(towers: Towers, encoders: dict[str, Any], batch: int, rounds: int) -> Case:
    """Texts to vectors."""
    texts = [different_captions(batch, seed) for seed in range(rounds + 1)]
    contenders: dict[str, Callable[[int], object]] = {
        "PyTorch": lambda turn: in_torch(towers.text, towers.to_tokens(texts[turn]).ids),
        "PyTorch cut": lambda turn: in_torch(towers.text, cut_ids(towers, texts[turn])),
    }
    for name, encoder in encoders.items():
        contenders[name] = lambda turn, encoder=encoder: encoder.encode_texts(texts[turn])
    timings = take_turns(contenders | {"gemm": gemm()}, rounds)
    return Case("captions", batch, timings, timings.pop("gemm"), captions_flops(towers, texts[1:]))


def described(case: Case, rate: float) -> list[dict[str, Any]]:
    """A row a contender; the floor is what the matrix products take at `rate` operations a second."""
    pytorch, cut = case.timings["PyTorch"], case.timings.get("PyTorch cut")
    floor = case.flops / rate
    return [
        {
            "what": case.what,
            "batch": case.batch,
            "with": name,
            "per_second": case.batch / timing.median,
            "ms": timing.median * 1000,
            "times_pytorch": timing.faster_than(pytorch),
            "times_pytorch_cut": timing.faster_than(cut) if cut else None,
            "floor_ms": floor * 1000,
            "share_of_floor": floor / timing.median,
        }
        for name, timing in case.timings.items()
    ]


def in_torch(tower: torch.nn.Module, inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.nn.functional.normalize(tower(torch.from_numpy(inputs)), dim=-1).numpy()


def cut_ids(towers: Towers, texts: Sequence[str]) -> np.ndarray:
    tokens = towers.to_tokens(texts)
    return tokens.ids[:, : tokens.lengths.max()]


def different_captions(count: int, seed: int) -> list[str]:
    """Captions of 6 to 14 words, no two alike."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draw.choices(WORDS, k=draw.randint(6, 14)))] = None
    return list(found)


def captions_flops(towers: Towers, rounds: Sequence[Sequence[str]]) -> float:
    """Operations of a batch, each caption at its own length, averaged over the rounds."""
    lengths = [int(length) for texts in rounds for length in towers.to_tokens(texts).lengths]
    costs = {length: flops(towers.text, torch.ones(1, length, dtype=torch.int64)) for length in set(lengths)}
    return sum(costs[length] for length in lengths) / len(rounds)


def flops(tower: torch.nn.Module, inputs: torch.Tensor) -> int:
    """Floating-point operations of a tower's matrix products, counted as it runs.

    In the plain form of attention: torch's own fast path is one operator that the counter does not know.
    """
    with plain_attention(), FlopCounterMode(display=False) as counter, torch.no_grad():
        tower(inputs)
    return counter.get_total_flops()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender")
    parser.add_argument("--rounds", type=int, default=7, help="how often each contender takes its turn")
    parser.add_argument("--json", type=Path, help="also write the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
