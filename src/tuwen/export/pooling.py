"""What comes after the last layer's attention is computed for the pooled token alone.

A tower that pools one token (the class token, the end token) needs its other tokens only as long as attention mixes
them. After that, each row goes its own way through linear maps, norms and activations, so picking the row first
gives the same numbers: 6 % less to compute in a tower of 12 layers. Knows operators, no model by name.
"""

import onnx_ir

_EACH_NUMBER = {
    *("Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish"),
    *("Mul", "Neg", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"),
}
"""Operators that treat every number by itself, whatever the rank."""


def pool_early(model: onnx_ir.Model) -> None:
    """Move the choice of the pooled row up to where rows were last mixed. In place."""
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
    """Whether a node takes one token, (n, l, d) -> (n, d)."""
    if node.op_type == "Gather":
        along = node.attributes.get_int("axis", 0) == 1
    else:
        along = node.op_type == "GatherND" and node.attributes.get_int("batch_dims", 0) == 0
    return along and _rank(node.inputs[0]) == 3 and _rank(node.outputs[0]) == 2


def _row_by_row(graph: onnx_ir.Graph, pick: onnx_ir.Node) -> set[onnx_ir.Node]:
    """The nodes before `pick` whose rows do not meet, and whose result nobody needs but `pick`."""
    region: set[onnx_ir.Node] = set()
    for node in reversed(list(graph)):
        users = {use.node for output in node.outputs for use in output.uses()}
        ours = users and users <= region | {pick}
        if ours and not any(output.is_graph_output() for output in node.outputs) and _keeps_rows_apart(node):
            region.add(node)
    return region


def _keeps_rows_apart(node: onnx_ir.Node) -> bool:
    """Whether (n, l, d) comes out of (n, l, d) row by row, other inputs being the same for all rows."""
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
    """Pick every value that enters the region; what is inside then has one row for each picture or text."""
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
    """Which inputs have the rows of the output, (n, l, anything). The others are the same for all rows."""
    rows = _axes(node.outputs[0])[:2]
    inputs = enumerate(node.inputs)
    return [index for index, value in inputs if _rank(value) == 3 and _axes(value)[:2] == rows]


def _is_constant(value: onnx_ir.Value, ranks: tuple[int, ...]) -> bool:
    return value.const_value is not None and _rank(value) in ranks


def _rank(value: onnx_ir.Value | None) -> int:
    return len(_axes(value))


def _axes(value: onnx_ir.Value | None) -> tuple[int | onnx_ir.SymbolicDim, ...]:
    """A value's shape; () where it is not known, which fits nothing here but a constant."""
    return () if value is None or value.shape is None else tuple(value.shape)


def _without_tokens(value: onnx_ir.Value) -> onnx_ir.Shape:
    assert value.shape is not None
    return onnx_ir.Shape([value.shape[0], value.shape[2]])
