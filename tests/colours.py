"""A whole bundle of a few kilobytes that really understands something: the colours of plain pictures.

Its picture tower averages what it sees; its text tower adds up word vectors, with words for colours in several
languages. Both are ONNX graphs that run on every runtime. Nothing here is trained or random without a seed.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tuwen.bundle.bundle import seal, writing
from tuwen.bundle.files import sha256
from tuwen.bundle.manifest import TOKENIZER, ImageSpec, Manifest, Scoring, TextSpec, graph

SIZE, GRID, DIM = 32, 4, 16
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}
OTHERS = {"红": "red", "绿": "green", "蓝": "blue", "rot": "red", "grün": "green", "blau": "blue"}
PAD, UNKNOWN, START, END = 0, 1, 2, 3
CONTEXT = 12


def make_bundle(
    folder: Path, *, kind: str = "softmax", seed: int = 0, languages: tuple[str, ...] = ("en", "de", "zh")
) -> Path:
    """Write the bundle. `kind`: how it scores; `seed`: another one is another model with other vectors."""
    rng = np.random.default_rng(seed)
    with writing(folder) as aside:
        (aside / "onnx").mkdir()
        save(_vision(rng), aside / graph("vision", "fp32"))
        save(_text(), aside / graph("text", "fp32"))
        _tokenizer().save(str(aside / TOKENIZER))
        seal(aside, _manifest(aside, kind, languages))
    return folder


def picture(colour: str, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A picture that is mostly of one colour, different for every seed."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 12, (size[1], size[0], 3)) + rng.normal(0, 20, (1, 1, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) * 215 + 20 + noise, 0, 255).astype(np.uint8))


def make_photos(folder: Path, count: int = 3) -> Path:
    """A small collection: `count` JPEGs of each colour in a folder each, and a text file among them."""
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(colour, seed=i).save(folder / colour / f"{colour}-{i}.jpg", quality=95)
    (folder / "notes.txt").write_text("not a picture\n", encoding="utf-8")
    return folder


def _manifest(folder: Path, kind: str, languages: tuple[str, ...]) -> Manifest:
    return Manifest(
        name="colours",
        family="colours",
        source="made by the tests",
        dim=DIM,
        weights_sha256=sha256(folder / graph("vision", "fp32")),
        tokenizer_sha256=sha256(folder / TOKENIZER),
        image=ImageSpec(size=(SIZE, SIZE), resize="shortest", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        text=TextSpec(
            languages=languages,
            cleaning="none",
            context_length=CONTEXT,
            pad_id=PAD,
            pad_to="longest",
            end_id=END,
            mask=False,
            cut_exact=True,
        ),
        scoring=Scoring(kind="softmax", scale=20.0) if kind == "softmax" else Scoring(kind=kind, scale=10.0, bias=-5.0),
        files={},
    )


def _words() -> list[str]:
    return [*COLOURS, *OTHERS, "a", "photo", "of", "not"]


def _tokenizer() -> Tokenizer:
    vocabulary = {"[PAD]": PAD, "[UNK]": UNKNOWN, "[S]": START, "[E]": END}
    vocabulary |= {word: place for place, word in enumerate(_words(), start=4)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("红", "isolated"),
            pre_tokenizers.Split("绿", "isolated"),
            pre_tokenizers.Split("蓝", "isolated"),
            pre_tokenizers.Whitespace(),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[S] $A [E]", special_tokens=[("[S]", START), ("[E]", END)]
    )
    return tokenizer


def _direction(colour: str) -> np.ndarray:
    """Where pictures of a colour lie: their mean in -1..1, and a constant."""
    return np.concatenate([np.array(COLOURS[colour], np.float32) * 1.7 - 0.85, [0.3]])


def _vision(rng: np.random.Generator):
    """(n, 3, 32, 32) -> (n, 16): means of the channels, a constant, and 12 random views of a 4 x 4 grid."""
    views = rng.normal(0, 0.08, (3 * GRID * GRID, DIM - 4)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["means"], keepdims=0),
        helper.make_node("AveragePool", ["pixel_values"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("MatMul", ["flat", "views"], ["seen"]),
        helper.make_node("ReduceMean", ["means", "last"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "constant"], ["bias"]),
        helper.make_node("Concat", ["means", "bias", "seen"], ["sums"], axis=1),
    ]
    values = {
        "axes": np.array([2, 3], np.int64),
        "last": np.array([1], np.int64),
        "views": views,
        "zero": np.float32(0.0),
        "constant": np.float32(0.3),
    }
    inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])]
    return _model(nodes, values, inputs, "image_embeds")


def _text():
    """(n, length) -> (n, 16): word vectors added up; padding adds nothing."""
    words = np.zeros((4 + len(_words()), DIM), np.float32)
    words[[UNKNOWN, END], [4, 5]] = 0.05
    for place, word in enumerate(_words(), start=4):
        colour = OTHERS.get(word, word)
        if colour in COLOURS:
            words[place, :4] = _direction(colour)
        else:
            words[place, place % DIM] = 0.02
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "middle"], ["sums"], keepdims=0),
    ]
    values = {"words": words, "middle": np.array([1], np.int64)}
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "length"])]
    return _model(nodes, values, inputs, "text_embeds")


def _model(nodes, values, inputs, output: str):
    nodes = [
        *nodes,
        helper.make_node("ReduceL2", ["sums", "one"], ["length_of"], keepdims=1),
        helper.make_node("Div", ["sums", "length_of"], [output]),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(v), k) for k, v in {**values, "one": np.array([1], np.int64)}.items()
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", DIM])]
    graph_ = helper.make_graph(nodes, "tower", inputs, outputs, constants)
    return helper.make_model(graph_, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
