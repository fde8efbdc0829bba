"""Export a tower from PyTorch to ONNX: default domain, opset 18, dynamic batch and length, outputs of unit length.

Two rewrites make graphs smaller and faster: attention is exported in its plain form, and everything after the last
attention is computed for the pooled token alone.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx_ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes import Sequential
from onnx_ir.passes import common as passes
from torch import Tensor
from torch.nn.functional import linear

from tuwen.bundle.manifest import Tower
from tuwen.runtime.engines import import_onnxruntime

Attended: TypeAlias = tuple[Tensor, Tensor | None]


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within the block, every `torch.nn.MultiheadAttention` computes in the plain form if that is equivalent."""
    attention = torch.nn.MultiheadAttention
    original = attention.forward
    attention.forward = _plainly(original)  # type: ignore[method-assign]
    try:
        yield
    finally:
        attention.forward = original  # type: ignore[method-assign]


def _plainly(original: Callable[..., Attended]) -> Callable[..., Attended]:
    """A forward method in the plain form; for other options, it falls back to the original."""

    def forward(self: torch.nn.MultiheadAttention, *inputs: Tensor, **options: Any) -> Attended:  # noqa: ANN401
        if len(inputs) != 3 or options.get("need_weights", True) or not _is_plain(self):
            return original(self, *inputs, **options)
        masks = (_per_pair(options.get("attn_mask"), self.num_heads), _per_key(options.get("key_padding_mask")))
        given = [mask for mask in masks if mask is not None]
        if self.batch_first:
            return _attend(self, _project(self, inputs), given), None
        one = inputs[0] is inputs[1] is inputs[2]
        rows = (inputs[0].transpose(0, 1),) * 3 if one else tuple(x.transpose(0, 1) for x in inputs)
        return _attend(self, _project(self, rows), given).transpose(0, 1), None

    return forward


def _is_plain(attention: torch.nn.MultiheadAttention) -> bool:
    return attention._qkv_same_embed_dim and attention.bias_k is None and not attention.add_zero_attn


def _project(attention: torch.nn.MultiheadAttention, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Queries, keys and values, each (n, length, dim); one product for all three where they come from one input."""
    weight = attention.in_proj_weight
    bias: Tensor | None = attention.in_proj_bias  # torch's stubs do not know that `bias=False` leaves None
    if inputs[0] is inputs[1] is inputs[2]:
        return list(linear(inputs[0], weight, bias).chunk(3, dim=-1))
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return [linear(x, w, b) for x, w, b in zip(inputs, weight.chunk(3), biases, strict=True)]


def _attend(attention: torch.nn.MultiheadAttention, projected: list[Tensor], masks: list[Tensor]) -> Tensor:
    """softmax(q k' / sqrt(d) + masks) v, head by head (Vaswani et al. 2017, eq. 1), then the output projection."""
    heads, depth = attention.num_heads, attention.head_dim
    q, k, v = (x.reshape(*x.shape[:2], heads, depth).transpose(1, 2) for x in projected)  # (n, heads, length, depth)
    scores = (q * depth**-0.5) @ k.transpose(-1, -2)
    for mask in masks:
        scores = scores + mask
    mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2)
    out = attention.out_proj
    return linear(mixed.reshape(*mixed.shape[:2], heads * depth), out.weight, out.bias)


def _per_pair(mask: Tensor | None, heads: int) -> Tensor | None:
    """Torch's `attn_mask`, (l, s) or (n * heads, l, s), as something to add to (n, heads, l, s)."""
    if mask is None or mask.dim() == 2:
        return _additive(mask)
    return _additive(mask.reshape(-1, heads, *mask.shape[1:]))


def _per_key(mask: Tensor | None) -> Tensor | None:
    """Torch's `key_padding_mask`, (n, s), likewise."""
    return None if mask is None else _additive(mask[:, None, None, :])


def _additive(mask: Tensor | None) -> Tensor | None:
    """Torch's boolean masks say True for what is left out."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, float("-inf"))


_EACH_NUMBER = {
    *("Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish"),
    *("Mul", "Neg", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"),
}
"""operators that compute each number by itself, whatever the rank"""


def pool_early(model: onnx_ir.Model) -> None:
    """Move the choice of the pooled token up to the last place where tokens are mixed, in place."""
    graph = model.graph
    for pick in [node for node in graph if _picks_rows(node)]:
        pooled = pick.inputs[0]
        assert pooled is not None
        region = _row_by_row(graph, pick)
        if region:
            _pick_before(graph, pick, region)
            pick.outputs[0].replace_all_uses_with(pooled, replace_graph_outputs=True)
            graph.remove(pick, safe=True)
    graph.sort()


def _picks_rows(node: onnx_ir.Node) -> bool:
    """Whether a node picks one token of each row, (n, l, d) -> (n, d)."""
    if node.op_type == "Gather":
        along = node.attributes.get_int("axis", 0) == 1
    else:
        along = node.op_type == "GatherND" and node.attributes.get_int("batch_dims", 0) == 0
    return along and _rank(node.inputs[0]) == 3 and _rank(node.outputs[0]) == 2


def _row_by_row(graph: onnx_ir.Graph, pick: onnx_ir.Node) -> set[onnx_ir.Node]:
    """The nodes before `pick` that compute each token by itself, and whose results only lead to `pick`."""
    region: set[onnx_ir.Node] = set()
    for node in reversed(list(graph)):
        users = {use.node for output in node.outputs for use in output.uses()}
        ours = users and users <= region | {pick}
        if ours and not any(output.is_graph_output() for output in node.outputs) and _keeps_rows_apart(node):
            region.add(node)
    return region


def _keeps_rows_apart(node: onnx_ir.Node) -> bool:
    """Whether a node computes (n, l, d) from (n, l, d) token by token, with other inputs constant."""
    if len(node.outputs) != 1 or _rank(node.outputs[0]) != 3:
        return False
    rows = _rows(node)
    others = [value for index, value in enumerate(node.inputs) if value is not None and index not in rows]
    if node.op_type in _EACH_NUMBER:
        return bool(rows) and all(_is_constant(value, ranks=(0, 1)) for value in others)
    if node.op_type == "LayerNormalization":
        normal = node.attributes.get_int("axis", -1) in (-1, 2)
        return normal and rows == [0] and all(_is_constant(value, ranks=(1,)) for value in others)
    return node.op_type == "MatMul" and rows == [0] and all(_is_constant(value, ranks=(2,)) for value in others)


def _pick_before(graph: onnx_ir.Graph, pick: onnx_ir.Node, region: set[onnx_ir.Node]) -> None:
    """Pick the token from every value that enters the region, which then has one row for each image or text."""
    picked: dict[onnx_ir.Value, onnx_ir.Value] = {}
    for node in region:
        for index in _rows(node):
            value = node.inputs[index]
            assert value is not None
            if value.producer() in region:
                continue
            if value not in picked:
                picked[value] = _picked(graph, pick, value, node)
            node.replace_input_with(index, picked[value])
    for node in region:
        if "axis" in node.attributes:
            node.attributes["axis"] = onnx_ir.AttrInt64("axis", -1)
        node.outputs[0].shape = _without_tokens(node.outputs[0])


def _picked(graph: onnx_ir.Graph, pick: onnx_ir.Node, value: onnx_ir.Value, user: onnx_ir.Node) -> onnx_ir.Value:
    output = onnx_ir.Value(name=f"{value.name}_pooled", shape=_without_tokens(value), type=value.type)
    node = onnx_ir.node(pick.op_type, [value, pick.inputs[1]], dict(pick.attributes), outputs=[output])
    graph.insert_before(user, node)
    return output


def _rows(node: onnx_ir.Node) -> list[int]:
    """The indices of inputs with the output's rows, (n, l, anything)."""
    rows = _axes(node.outputs[0])[:2]
    inputs = enumerate(node.inputs)
    return [index for index, value in inputs if _rank(value) == 3 and _axes(value)[:2] == rows]


def _is_constant(value: onnx_ir.Value, ranks: tuple[int, ...]) -> bool:
    return value.const_value is not None and _rank(value) in ranks


def _rank(value: onnx_ir.Value | None) -> int:
    return len(_axes(value))


def _axes(value: onnx_ir.Value | None) -> tuple[int | onnx_ir.SymbolicDim, ...]:
    """A value's shape; () if it is not known."""
    return () if value is None or value.shape is None else tuple(value.shape)


def _without_tokens(value: onnx_ir.Value) -> onnx_ir.Shape:
    assert value.shape is not None
    return onnx_ir.Shape([value.shape[0], value.shape[2]])


OPSET = 18
INLINE_BYTES = 2**31 - 2**20
"""larger weights are stored beside the graph: a protobuf message cannot exceed 2 GB"""

_OUTPUTS: dict[Tower, str] = {"vision": "image_embeds", "text": "text_embeds"}


Feeds: TypeAlias = Mapping[str, NDArray[Any]]
"""the inputs of one run of a graph, by name"""


@dataclass(frozen=True, slots=True)
class Graph:
    """A tower in ONNX.

    Attributes:
        model: the graph; its weights are shared with the torch module.
        nodes_before: the number of nodes that torch's exporter wrote.
        nodes_after: the number of nodes after simplification.
    """

    model: onnx_ir.Model
    nodes_before: int
    nodes_after: int


def vision_graph(module: torch.nn.Module, size: tuple[int, int]) -> Graph:
    """pixel_values (n, 3, h, w) float32 -> image_embeds (n, dim) float32 of unit length, any n."""
    example = torch.zeros(2, 3, *size)
    return _to_graph("vision", module, {"pixel_values": example}, {0: "n"})


def text_graph(module: torch.nn.Module, ids: torch.Tensor, *, mask: bool) -> Graph:
    """input_ids (n, l) int64 [, attention_mask (n, l) int64] -> text_embeds (n, dim) float32, any n and l.

    Args:
        module: the tower.
        ids: example rows; n and l must differ, or the exporter takes them for the same dimension.
        mask: whether the tower takes an attention mask.
    """
    assert ids.shape[0] != ids.shape[1]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if mask else {"input_ids": ids}
    return _to_graph("text", module, inputs, {0: "n", 1: "l"})


def save(graph: Graph, path: Path) -> None:
    """Write a graph; weights of more than `INLINE_BYTES` go to a file of the same name with `_data` appended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = sum(value.const_value.nbytes for value in graph.model.graph.initializers.values() if value.const_value)
    beside = f"{path.name}_data" if weights > INLINE_BYTES else None
    onnx_ir.save(graph.model, path, external_data=beside)


def open_model(model: onnx_ir.Model) -> Any:  # noqa: ANN401
    """A session of ONNX Runtime on all cores that computes a graph as it is written, without fused int8 kernels."""
    package = import_onnxruntime()
    options = package.SessionOptions()
    options.graph_optimization_level = package.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="tuwen-open-") as folder:  # no protobuf holds 2 GB
        path = Path(folder) / "tower.onnx"
        save(Graph(model, 0, 0), path)
        return package.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class UnitLength(torch.nn.Module):
    """A tower whose output rows have length 1."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The tower's output, each row divided by its length; spelled out, because MNN misreads `ReduceL2`."""
        vectors: torch.Tensor = self.tower(*inputs)
        lengths = vectors.square().sum(dim=-1, keepdim=True).sqrt()
        return vectors / lengths.clamp_min(1e-12)


def _to_graph(tower: Tower, module: torch.nn.Module, inputs: dict[str, torch.Tensor], axes: dict[int, str]) -> Graph:
    with plain_attention(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
        program = torch.onnx.export(
            UnitLength(module).eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[_OUTPUTS[tower]],
            dynamic_shapes=(tuple(axes for _ in inputs),),
            optimize=False,
            verbose=False,
        )
        assert program is not None
        before = program.model.graph.num_nodes()
        logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it logs what it cannot fold
        program.optimize()
    pool_early(program.model)
    model = _tidy(program.model)
    return Graph(model, before, model.graph.num_nodes())


def _tidy(model: onnx_ir.Model) -> onnx_ir.Model:
    """Remove duplicates, unused parts and the exporter's metadata, which contains local paths."""
    simplify = Sequential(
        passes.CommonSubexpressionEliminationPass(),
        passes.DeduplicateInitializersPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),
        passes.CheckerPass(),
    )
    tidy = simplify(model).model
    tidy.producer_name, tidy.producer_version = "tuwen", None
    for number, node in enumerate(tidy.graph):  # torch numbers nodes across exports in one process
        node.name = f"{node.op_type}_{number}"
    return tidy
