"""One torch tower to one ONNX graph: default domain, opset 18, batch and length dynamic, output of unit length.

Knows torch's exporter and the graph's inputs and outputs by name. Knows nothing of checkpoints or folders.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx_ir
import torch
from onnx_ir.passes import Sequential
from onnx_ir.passes import common as passes

from tuwen.bundle.layout import Tower
from tuwen.export.attention import plain_attention
from tuwen.export.pooling import pool_early

OPSET = 18
INLINE_BYTES = 2**31 - 2**20
"""Weights above this lie beside the graph: a protobuf message cannot exceed 2 GB."""

_OUTPUTS: dict[Tower, str] = {"vision": "image_embeds", "text": "text_embeds"}


@dataclass(frozen=True, slots=True)
class Graph:
    """One tower as ONNX.

    Attributes:
        model: the graph, its weights still shared with the torch module.
        nodes_before: how many nodes torch's exporter wrote.
        nodes_after: how many are left after simplification.
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
        ids: a few rows that it can read; n and l must differ, so that the exporter does not take them for one.
        mask: whether the tower takes an attention mask.
    """
    assert ids.shape[0] != ids.shape[1]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if mask else {"input_ids": ids}
    return _to_graph("text", module, inputs, {0: "n", 1: "l"})


def save(graph: Graph, path: Path) -> None:
    """Write a graph; weights above `INLINE_BYTES` go to a file of the same name with `_data` at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = sum(
        value.const_value.nbytes for value in graph.model.graph.initializers.values() if value.const_value
    )
    beside = f"{path.name}_data" if weights > INLINE_BYTES else None
    onnx_ir.save(graph.model, path, external_data=beside)


class UnitLength(torch.nn.Module):
    """A tower whose rows have length 1."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The tower's output, each row divided by its length: spelled out, since MNN misreads ONNX's `ReduceL2`."""
        vectors: torch.Tensor = self.tower(*inputs)
        lengths = vectors.square().sum(dim=-1, keepdim=True).sqrt()
        return vectors / lengths.clamp_min(1e-12)


def _to_graph(
    tower: Tower, module: torch.nn.Module, inputs: dict[str, torch.Tensor], axes: dict[int, str]
) -> Graph:
    with plain_attention(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # torch's exporter warns of its own parts; none of it is the caller's to mend
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
        logging.getLogger("onnxscript").setLevel(logging.ERROR)  # what it leaves unfolded is no fault either
        program.optimize()
    pool_early(program.model)
    model = _tidy(program.model)
    return Graph(model, before, model.graph.num_nodes())


def _tidy(model: onnx_ir.Model) -> onnx_ir.Model:
    """Drop what was computed twice or for nobody, and the exporter's notes: they hold paths of this machine."""
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
    for place, node in enumerate(tidy.graph):  # torch counts nodes through the whole process
        node.name = f"{node.op_type}_{place}"
    return tidy
