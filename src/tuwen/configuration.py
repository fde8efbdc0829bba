"""Configuration files in YAML, and `-o key.path=value`, which overrides them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuwen.errors import InvalidInput


class _Loader(yaml.SafeLoader):
    """YAML in which `4e-4` is a number and a date is a string; duplicate keys are errors."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the base class has it so)
        letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As in the base class, but a duplicate key is an error."""
        seen = set[str]()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def read_yaml(file: Path) -> object:
    """Read a file in UTF-8.

    Raises:
        InvalidInput: it cannot be read, or is not YAML.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}", value=file, where=file) from error
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8"
        raise InvalidInput(f"{file} is not UTF-8 (byte {error.start}): {hint}", value=file, where=file) from error
    return _loaded(text, str(file), file)


def overridden(tree: object, override: str, example: str) -> object:
    """A copy of the tree with the value of `key.path=value`, which is YAML; a number is an index of a list.

    Raises:
        InvalidInput: it has another form, or the value is not YAML. The message shows the `example`.
    """
    path, found, text = override.partition("=")
    steps = path.split(".")
    if not found or not all(steps):
        hint = f"write KEY=VALUE, such as -o {example}"
        raise InvalidInput(f"-o {override}: {hint}", value=override, hint=hint)
    return _put(tree, steps, _loaded(text, f"-o {override}: the value", override))


def _loaded(text: str, name: str, value: object) -> object:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = f"{name} is not valid YAML: {' '.join(str(error).split())}"
        raise InvalidInput(message, value=value, where=value) from error


def _put(tree: object, path: Sequence[str], value: object) -> object:
    """A copy of the tree with the value at the path; a value in the place of a section is replaced."""
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
        return [_put(item, rest, value) if place == int(step) else item for place, item in enumerate(tree)]
    section = tree if isinstance(tree, Mapping) else {}
    return {**section, step: _put(section.get(step), rest, value)}
