"""Read the inputs, outputs, operators and weight files of an ONNX graph.

Reads the few parts of the protobuf that hold them from the mapped file: without the onnx package or weights in memory,
in about 50 ms for a ViT-L. Field numbers are those of onnx.proto3.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tuwen.errors import BundleInvalid

Field: TypeAlias = tuple[int, int, int]
"""(number, start, end) of a field's bytes; of a number field: (number, value, value)."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output: its name, and each axis' fixed length, or None where that is dynamic or unknown."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX graph.

    Attributes:
        inputs: what a caller feeds; weights are not among them.
        outputs: what it computes.
        operators: the names of all operators in it, in branches and functions too.
        weight_files: names, relative to the graph's folder, of files that hold weights beside it.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operators: frozenset[str]
    weight_files: tuple[str, ...]

    @property
    def depends_on_batch(self) -> bool:
        """Whether a row's result depends on the other rows: activations are quantised by the range of them all."""
        return any(operator.startswith("DynamicQuantize") for operator in self.operators)


def read_graph(path: Path) -> Graph:
    """Read what an ONNX file says of itself.

    Raises:
        BundleInvalid: it is absent, or no ONNX graph.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).graph()
    except (OSError, ValueError, IndexError, RecursionError) as error:  # what a file that is none leads to
        raise BundleInvalid(
            f"{path} cannot be read as an ONNX graph ({error}); get the file again", where=path
        ) from error


class _Reader:
    """Walks the messages of one file."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content

    def graph(self) -> Graph:
        model = list(self._fields(0, len(self._content)))
        graphs = [field for field in model if field[0] == 7]  # ModelProto.graph
        if len(graphs) != 1:
            raise ValueError("it has no graph")
        parts = list(self._fields(*graphs[0][1:]))
        weights = [part for part in parts if part[0] == 5]  # GraphProto.initializer
        names = {self._text(weight, 8) for weight in weights}  # TensorProto.name
        inputs = tuple(value for value in self._values(parts, 11) if value.name not in names)
        functions = [field for field in model if field[0] == 25]  # ModelProto.functions
        operators = set(self._operators(parts, node=1))
        for function in functions:
            operators.update(self._operators(list(self._fields(*function[1:])), node=7))  # FunctionProto.node
        files = sorted({name for weight in weights for name in self._locations(weight)})
        return Graph(inputs, self._values(parts, 12), frozenset(operators), tuple(files))

    def _operators(self, parts: list[Field], node: int) -> Iterator[str]:
        for _, start, end in (part for part in parts if part[0] == node):
            for number, inner, inner_end in self._fields(start, end):
                if number == 4:  # NodeProto.op_type
                    yield self._string(inner, inner_end)
                elif number == 5:  # NodeProto.attribute
                    yield from self._branches(inner, inner_end)

    def _branches(self, start: int, end: int) -> Iterator[str]:
        for number, inner, inner_end in self._fields(start, end):
            if number in (6, 11):  # AttributeProto.g, .graphs: the bodies of If, Loop, Scan
                yield from self._operators(list(self._fields(inner, inner_end)), node=1)

    def _values(self, parts: list[Field], number: int) -> tuple[Value, ...]:
        return tuple(Value(self._text(part, 1), self._shape(part)) for part in parts if part[0] == number)

    def _shape(self, value: Field) -> tuple[int | None, ...]:
        """ValueInfoProto.type, TypeProto.tensor_type, Tensor.shape, TensorShapeProto.dim, Dimension.dim_value."""
        axes = self._down(value, 2, 1, 2, 1)
        return tuple(self._length_of(axis) for axis in axes)

    def _length_of(self, axis: Field) -> int | None:
        """Some exporters write 0 or -1 where they mean any length."""
        length = next((number[1] for number in self._down(axis, 1)), 0)
        return length if 0 < length < 2**63 else None

    def _down(self, field: Field, *path: int) -> list[Field]:
        """The fields that are reached from `field` by these numbers, one level each."""
        found = [field]
        for wanted in path:
            found = [inner for outer in found for inner in self._fields(*outer[1:]) if inner[0] == wanted]
        return found

    def _locations(self, weight: Field) -> Iterator[str]:
        for entry in self._down(weight, 13):  # TensorProto.external_data
            if self._text(entry, 1) == "location":
                yield self._text(entry, 2)

    def _text(self, message: Field, number: int) -> str:
        return next((self._string(*inner[1:]) for inner in self._down(message, number)), "")

    def _string(self, start: int, end: int) -> str:
        return self._content[start:end].decode()

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        position = start
        while position < end:
            tag, position = self._number(position)
            if tag & 7 == 0:
                value, position = self._number(position)
                yield tag >> 3, value, value
                continue
            length, position = self._size(tag & 7, position)
            if position + length > end:
                raise ValueError("it is cut short, or no protobuf")
            yield tag >> 3, position, position + length
            position += length

    def _size(self, kind: int, position: int) -> tuple[int, int]:
        if kind == 2:
            return self._number(position)
        if kind in (1, 5):
            return (8 if kind == 1 else 4), position
        raise ValueError("it is no protobuf")

    def _number(self, position: int) -> tuple[int, int]:
        """A base-128 number: seven bits a byte, the lowest first."""
        value = shift = 0
        while True:
            byte = self._content[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
            shift += 7
            if shift > 63:
                raise ValueError("it is no protobuf")
