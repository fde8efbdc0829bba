"""A graph with outlying channels, as trained transformers have them, that computes the same function as before."""

import numpy as np
import onnx
from onnx import numpy_helper

FACTOR = 50
CHANNELS = 6


def inject(model: onnx.ModelProto, seed: int = 0) -> int:
    """Scale 6 channels of every layer norm before a product by 50, and the rows that read them by 1/50, in place.

    Returns:
        How many layer norms were changed.
    """
    rng = np.random.default_rng(seed)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    changed = 0
    for node in model.graph.node:
        following = readers.get(node.output[0], [])
        products = [reader for reader in following if reader.op_type == "MatMul" and reader.input[1] in weights]
        if node.op_type != "LayerNormalization" or not following or len(products) != len(following):
            continue
        width = weights[node.input[1]].dims[0]
        factors = np.ones(width, dtype=np.float32)
        factors[rng.choice(width, CHANNELS, replace=False)] = FACTOR
        for place in range(1, len(node.input)):
            node.input[place] = _scaled(model, weights[node.input[place]], factors, f"{node.name}_{place}")
        for product in products:
            product.input[1] = _scaled(model, weights[product.input[1]], 1 / factors[:, None], product.name)
        changed += 1
    return changed


def _scaled(model: onnx.ModelProto, tensor: onnx.TensorProto, factors: np.ndarray, name: str) -> str:
    values = (numpy_helper.to_array(tensor) * factors).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, f"{name}_outlying"))
    return f"{name}_outlying"
