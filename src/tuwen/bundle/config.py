"""A JSON file that others wrote, read field by field: what is missing or of another kind is named, not guessed.

Knows files and fields. Does not know what any of them means.
"""

import json
from pathlib import Path
from typing import Any, TypeVar, overload

from tuwen.errors import BundleInvalid

T = TypeVar("T")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        BundleInvalid: the file is absent, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleInvalid(f"{path} is missing; get it from where the model came from") from error
    except (OSError, ValueError) as error:
        raise BundleInvalid(f"{path} cannot be read as JSON ({error}); get it again") from error
    if not isinstance(found, dict):
        raise BundleInvalid(f"{path} holds no JSON object; get it again")
    return found


class Config:
    """The fields of one file. A dot goes one level down: `text_config.max_position_embeddings`."""

    def __init__(self, path: Path, within: str = "") -> None:
        """Read it.

        Args:
            path: the file.
            within: the field that holds all the others, if one does.

        Raises:
            BundleInvalid: it is absent, or no JSON object.
        """
        self.path = path
        self._values = read_object(path)
        if within:
            self._values = self.need(within, dict)

    def has(self, name: str) -> bool:
        """Whether the field is there and is not null."""
        return self._find(name) is not None

    @overload
    def need(self, name: str, kind: type[T], /) -> T: ...

    @overload
    def need(self, name: str, kind: type[Any], other: type[Any], /) -> Any: ...  # noqa: ANN401

    def need(self, name: str, *kinds: type[Any]) -> Any:
        """The field's value.

        Raises:
            BundleInvalid: it is missing, or of none of these kinds.
        """
        value = self._find(name)
        if value is None:
            raise BundleInvalid(f"{self.path} has no {name}, which tuwen must know")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(name, f"not of the kind {' or '.join(kind.__name__ for kind in kinds)}")
        return value

    def get(self, name: str, default: T) -> T:
        """The field's value, or what its absence stands for in that format.

        Raises:
            BundleInvalid: it is of another kind than `default`.
        """
        return self.need(name, type(default)) if self.has(name) else default

    def numbers(self, name: str) -> tuple[float, float, float]:
        """Three numbers, one a channel.

        Raises:
            BundleInvalid: it is anything else.
        """
        values = self.need(name, list)
        if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
            raise self.wrong(name, "not three numbers")
        return (float(values[0]), float(values[1]), float(values[2]))

    def wrong(self, name: str, why: str) -> BundleInvalid:
        """The error to raise for a value that cannot be used."""
        return BundleInvalid(f"{self.path}: {name} is {self._find(name)!r}: {why}")

    def _find(self, name: str) -> Any:  # noqa: ANN401
        value: Any = self._values
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value
