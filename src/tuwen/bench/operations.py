"""Floating-point operations: how many a model's towers need, and how many a second this CPU does at best."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import Tower
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.machine import native_precisions

Flops: TypeAlias = Callable[[Tower, Sequence[int]], float | None]
"""A tower's operations: for images given `[how many]`, for texts the number of tokens of each."""

GEMM = (400, 768, 3072)
"""m, k, n: the 50 tokens of 8 images through the first MLP product of a ViT-B/32, and back"""
GEMM_FLOPS = 4 * 2 * math.prod(GEMM)
"""operations of one call of `matrix_products`: there and back, twice"""
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def measurable() -> tuple[str, ...]:
    """The precisions that this CPU supports natively; none without OpenVINO."""
    try:
        import_openvino()
    except RuntimeUnavailable:
        return ()
    return tuple(name for name in _HINTS if name in native_precisions("cpu"))


def matrix_products(precision: str, threads: int) -> Callable[[], object]:
    """A function that does nothing but matrix products on the CPU, `GEMM_FLOPS` operations a call.

    Args:
        precision: one of `measurable()`.
        threads: for computing.
    """
    ov = import_openvino()
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "NO",
    }
    request = ov.Core().compile_model(_chain(ov, int8=precision == "int8"), "CPU", config).create_infer_request()
    rows = np.random.default_rng(0).standard_normal(GEMM[:2], dtype=np.float32)
    return lambda: request.infer({0: rows}, share_inputs=True, share_outputs=True)


def _chain(ov: Any, *, int8: bool) -> Any:  # noqa: ANN401
    """(m, k) to (m, k) through four products; with `int8`, their inputs are quantised as a model's would be."""
    ops = ov.opset13
    m, k, n = GEMM
    rng = np.random.default_rng(1)
    first = state = ops.parameter([m, k], dtype=np.float32)
    for shape in ((k, n), (n, k)) * 2:
        weights = ops.constant(rng.standard_normal(shape, dtype=np.float32) / math.sqrt(shape[0]))
        if int8:
            state, weights = _quantised(ops, state, 256), _quantised(ops, weights, 255)
        state = ops.matmul(state, weights, transpose_a=False, transpose_b=False)
    return ov.Model([state], [first])


def _quantised(ops: Any, value: Any, levels: int) -> Any:  # noqa: ANN401
    low, high = (ops.constant(np.array(bound, dtype=np.float32)) for bound in (-4.0, 4.0))
    return ops.fake_quantize(value, low, high, low, high, levels)


def count_flops(bundle: Bundle) -> Flops:
    """A function that counts the operations of a bundle's towers, each text at its own length.

    Its result is None where OpenVINO is missing, or where the graph has a fixed shape.
    """

    @lru_cache
    def counter(tower: Tower) -> Callable[[int], int]:
        graph = bundle.graphs[tower, bundle.precisions[0]]
        names, count, size = (
            [port.name for port in read_graph(graph).inputs],
            graph_flops(graph),
            bundle.manifest.image.size,
        )
        return lambda length: count(dict.fromkeys(names, (1, 3, *size) if tower == "vision" else (1, length)))

    @lru_cache
    def of_one(tower: Tower, length: int) -> int | None:
        try:
            return counter(tower)(length)
        except (RuntimeError, RuntimeUnavailable):
            return None

    def count(tower: Tower, lengths: Sequence[int]) -> float | None:
        each = [of_one("vision", 0)] * lengths[0] if tower == "vision" else [of_one("text", n) for n in lengths]
        known = [number for number in each if number is not None]
        return float(sum(known)) if len(known) == len(each) else None

    return count


def graph_flops(graph: Path) -> Callable[[Mapping[str, Sequence[int]]], int]:
    """A function that counts the operations of a graph's matrix products and convolutions, given its input shapes.

    A multiplication and an addition count as two. Biases, norms and activations are left out: they are few.

    Raises:
        RuntimeError: OpenVINO cannot read the graph; or, when counting, cannot give it such shapes.
    """
    model = import_openvino().Core().read_model(str(graph))

    def count(shapes: Mapping[str, Sequence[int]]) -> int:
        model.reshape({name: list(shape) for name, shape in shapes.items()})
        return sum(_operations(node) for node in model.get_ordered_ops())

    return count


def _operations(node: Any) -> int:  # noqa: ANN401
    kind = node.get_type_name()
    if kind == "MatMul":
        inner = tuple(node.input_value(0).get_shape())[-2 if node.get_attributes().get("transpose_a") else -1]
        return int(2 * math.prod(node.output(0).get_shape()) * inner)
    if kind in ("Convolution", "GroupConvolution"):
        weights = tuple(node.input_value(1).get_shape())[1 if kind == "Convolution" else 2 :]
        return int(2 * math.prod(node.output(0).get_shape()) * math.prod(weights))
    return 0
