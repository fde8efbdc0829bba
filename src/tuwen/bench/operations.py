"""How many operations a model's towers take for given pictures and texts. Knows bundles; times nothing."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuwen.bundle.bundle import Bundle
from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import Tower
from tuwen.errors import RuntimeUnavailable
from tuwen.runtime.engines import import_openvino
from tuwen.runtime.machine import native_precisions

if TYPE_CHECKING:
    from tuwen.bench.bench import Flops


# ---- Matrix products

GEMM = (400, 768, 3072)
"""m, k, n: 8 pictures' 50 tokens through the first MLP product of a ViT-B/32, and back."""
GEMM_FLOPS = 4 * 2 * math.prod(GEMM)
"""Operations of one call of what `products` gives: there and back, twice."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def measurable() -> tuple[str, ...]:
    """The precisions in which this machine's CPU computes by itself; none without OpenVINO."""
    try:
        import_openvino()
    except RuntimeUnavailable:
        return ()
    return tuple(name for name in _HINTS if name in native_precisions("cpu"))


def products(precision: str, threads: int) -> Callable[[], object]:
    """What does nothing but matrix products on the CPU, `GEMM_FLOPS` operations a call.

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


def counter(graph: Path) -> Callable[[Mapping[str, tuple[int, ...]]], int]:
    """What counts the operations of a graph's matrix products and convolutions, given its inputs' shapes.

    A multiplication and an addition count as two. Biases, norms and activations are left out: they are few. The
    graph is read once.

    Raises:
        RuntimeError: OpenVINO cannot read the graph; likewise, when counting, where it cannot have such shapes.
    """
    model = import_openvino().Core().read_model(str(graph))

    def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
        model.reshape({name: list(shape) for name, shape in shapes.items()})
        return sum(_operations(node) for node in model.get_ordered_ops())

    return count


def _operations(node: Any) -> int:  # noqa: ANN401
    kind = node.get_type_name()
    if kind == "MatMul":
        inner = _shape(node.input_value(0))[-2 if node.get_attributes().get("transpose_a") else -1]
        return 2 * math.prod(_shape(node.output(0))) * inner
    if kind == "Convolution":
        return 2 * math.prod(_shape(node.output(0))) * math.prod(_shape(node.input_value(1))[1:])
    if kind == "GroupConvolution":
        return 2 * math.prod(_shape(node.output(0))) * math.prod(_shape(node.input_value(1))[2:])
    return 0


def _shape(port: Any) -> tuple[int, ...]:  # noqa: ANN401
    return tuple(port.get_shape())


def _chain(ov: Any, *, int8: bool) -> Any:  # noqa: ANN401
    """(m, k) to (m, k), four products; with `int8`, what each of them reads is quantised as a model's would be."""
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


# ---- How many operations a model's towers take for given pictures and texts


def counted(bundle: Bundle) -> "Flops":
    """What counts the products of a bundle's best files, each text at its own length.

    None where OpenVINO is not there, or cannot give the graph such a shape: it has fixed ones.
    """

    @lru_cache
    def counter_of(tower: Tower) -> Callable[[int], int]:
        graph = bundle.graphs[tower, bundle.precisions[0]]
        names, count = [port.name for port in read_graph(graph).inputs], counter(graph)
        size = bundle.manifest.image.size
        return lambda length: count(dict.fromkeys(names, (1, 3, *size) if tower == "vision" else (1, length)))

    @lru_cache
    def of_one(tower: Tower, length: int) -> int | None:
        try:
            return counter_of(tower)(length)
        except (RuntimeError, RuntimeUnavailable):
            return None

    def count(tower: Tower, lengths: Sequence[int]) -> float | None:
        if tower == "vision":
            one = of_one("vision", 0)
            return None if one is None else float(one * lengths[0])
        each = [of_one("text", length) for length in lengths]
        known = [number for number in each if number is not None]
        return float(sum(known)) if len(known) == len(each) else None

    return count
