"""A dual encoder of a few kilobytes, real ONNX graphs run by the real runtimes, in every shape that graphs come in.

Its towers compute something that a mistake would show in: the vision tower a full linear map of all pixels and a
nonlinearity; the text tower a causal sum over embeddings, read at the end token.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tuwen.bundle.bundle import Bundle, read_bundle, seal, writing
from tuwen.bundle.manifest import ImageSpec, Manifest, Scoring, TextSpec
from tuwen.data.vocabularies import bpe_tokenizer_json

DIM, SIZE, CONTEXT, WIDTH = 16, 8, 24, 32
MERGES = ["t h", "th e</w>", "d o", "do g</w>", "c a", "ca t</w>", "o n</w>"]
VOCABULARY = 512 + len(MERGES) + 2
END = VOCABULARY - 1

IMAGE = ImageSpec(size=(SIZE, SIZE), resize="shortest", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
TEXT = TextSpec(
    cleaning="ftfy_html",
    context_length=CONTEXT,
    pad_id=0,
    pad_to="context",
    end_id=END,
    mask=False,
    cut_exact=True,
)


def numbers(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def graph(
    nodes: Sequence[Any], inputs: Sequence[Any], output: str, weights: dict[str, Any], *extra: Any
) -> onnx.ModelProto:
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", DIM]), *extra]
    body = helper.make_graph(
        nodes, "tiny", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in weights.items()]
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def unit(name: str, out: str) -> list[Any]:
    """To length 1, as tuwen's own graphs end."""
    return [
        helper.make_node("ReduceL2", [name, "last"], [f"{name}_length"], keepdims=1),
        helper.make_node("Div", [name, f"{name}_length"], [out]),
    ]


def vision_graph(
    *, batch: int | str = "n", normalised: bool = True, hidden_state: bool = False, name: str = "pixel_values"
) -> onnx.ModelProto:
    """(batch, 3, SIZE, SIZE) -> (n, DIM); with `hidden_state` a second output of three axes comes first."""
    nodes = [
        helper.make_node("Reshape", [name, "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "first"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["embeds" if normalised else "image_embeds"]),
        *(unit("embeds", "image_embeds") if normalised else []),
    ]
    weights: dict[str, Any] = {
        "flat": np.array([-1, 3 * SIZE * SIZE]),
        "first": numbers(1, 3 * SIZE * SIZE, WIDTH) / 14,
        "second": numbers(2, WIDTH, DIM),
        **({"last": np.array([-1])} if normalised else {}),
    }
    extra = []
    if hidden_state:
        nodes.append(helper.make_node("Reshape", ["b", "states"], ["last_hidden_state"]))
        weights["states"] = np.array([-1, 4, WIDTH // 4])
        extra = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", 4, WIDTH // 4])]
    pixels = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, SIZE, SIZE])
    return graph(nodes, [pixels], "image_embeds", weights, *extra)


def kept(name: str, causal: bool, masked: bool, wide: bool) -> tuple[list[Any], dict[str, Any]]:
    """(batch, length) of 1 and 0: which positions the text tower reads."""
    if masked:
        return [helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT)], {}
    one = {"first": np.array(1.0, np.float32)}
    if not causal:
        zero = {"zero": np.array(0.0, np.float32)}
        nodes = [
            helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "zero"], ["zeros"]),
            helper.make_node("Add", ["zeros", "first"], ["kept"]),
        ]
        return nodes, one | zero
    nodes = [
        helper.make_node("Equal", [name, "end"], ["is_end"]),
        helper.make_node("Cast", ["is_end"], ["ends"], to=TensorProto.FLOAT),
        helper.make_node("CumSum", ["ends", "one_axis"], ["number"]),
        helper.make_node("Equal", ["number", "first"], ["is_first"]),
        helper.make_node("Cast", ["is_first"], ["firsts"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ends", "firsts"], ["kept"]),
    ]
    return nodes, one | {"end": np.array(END, dtype=np.int64 if wide else np.int32)}


def words(name: str, token_types: bool) -> tuple[list[Any], dict[str, Any]]:
    """(batch, length, WIDTH): the embeddings."""
    nodes = [helper.make_node("Gather", ["table", name], ["words" if token_types else "embedded"])]
    weights: dict[str, Any] = {"table": numbers(3, VOCABULARY, WIDTH)}
    if token_types:
        nodes += [
            helper.make_node("Gather", ["types", "token_type_ids"], ["typed"]),
            helper.make_node("Add", ["words", "typed"], ["embedded"]),
        ]
        weights["types"] = numbers(4, 2, WIDTH)
    return nodes, weights


def text_graph(
    *,
    batch: int | str = "n",
    length: int | str = "l",
    masked: bool = False,
    token_types: bool = False,
    causal: bool = True,
    wide: bool = True,
    normalised: bool = True,
    name: str = "input_ids",
) -> onnx.ModelProto:
    """(batch, length) -> (n, DIM).

    Causal: read at the first end token, so what pads a text is never seen, not even more end tokens. Masked: the
    sum over what the mask leaves. Neither: the sum over all, padding included. `wide`: int64, else int32.
    """
    kind = TensorProto.INT64 if wide else TensorProto.INT32
    ports = [name, *(["attention_mask"] if masked else []), *(["token_type_ids"] if token_types else [])]
    inputs = [helper.make_tensor_value_info(port, kind, [batch, length]) for port in ports]
    (first, table), (second, constants) = words(name, token_types), kept(name, causal, masked, wide)
    adding_up = causal and not masked
    nodes = [
        *first,
        *second,
        helper.make_node("CumSum" if adding_up else "Identity", ["embedded", "one_axis"][: 1 + adding_up], ["sums"]),
        helper.make_node("Tanh", ["sums"], ["states"]),
        helper.make_node("Unsqueeze", ["kept", "last"], ["column"]),
        helper.make_node("Mul", ["states", "column"], ["chosen"]),
        helper.make_node("ReduceSum", ["chosen", "one"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "out"], ["embeds" if normalised else "text_embeds"]),
        *(unit("embeds", "text_embeds") if normalised else []),
    ]
    weights = table | constants | {"out": numbers(5, WIDTH, DIM), "one_axis": np.array(1), "one": np.array([1])}
    weights["last"] = np.array([-1])
    used = {port for node in nodes for port in node.input}
    return graph(nodes, inputs, "text_embeds", {key: value for key, value in weights.items() if key in used})


def tokenizer_json() -> bytes:
    return bpe_tokenizer_json(MERGES)


def manifest(**changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "name": "tiny",
        "family": "tiny",
        "source": "random numbers",
        "dim": DIM,
        "weights_sha256": hashlib.sha256(b"tiny").hexdigest(),
        "tokenizer_sha256": hashlib.sha256(tokenizer_json()).hexdigest(),
        "image": IMAGE,
        "text": TEXT,
        "scoring": Scoring(kind="softmax", scale=50.0),
        "files": {},
    }
    return Manifest(**(facts | changes))


def write_bundle(folder: Path, graphs: dict[str, onnx.ModelProto] | None = None, **changes: Any) -> Bundle:
    """A bundle of tuwen's own, through the real door. `graphs`: by path within it; the two fp32 ones by default."""
    graphs = graphs or {"onnx/vision_model.onnx": vision_graph(), "onnx/text_model.onnx": text_graph()}
    with writing(folder) as aside:
        (aside / "onnx").mkdir()
        for path, model in graphs.items():
            onnx.save(model, aside / path)
        (aside / "tokenizer.json").write_bytes(tokenizer_json())
        seal(aside, manifest(**changes))
    return read_bundle(folder)


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
