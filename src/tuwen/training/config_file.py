"""YAML and `-o key.path=value` to a `TrainConfig`, and back to YAML.

All that is wrong is told at once: which key, what it says, and what it may be. Knows no key by name.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tuwen.errors import InvalidInput
from tuwen.training.config import TrainConfig


class _Loader(yaml.SafeLoader):
    """YAML in which `4e-4` is a number, a date is a text, and no key stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the base class has it so)
        letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class, but a key that is there twice is an error."""
        seen = set[str]()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def read_config(file: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        file: YAML.
        overrides: `optimizer.lr=4e-4` and the like, their values in YAML; they win over the file. A number is a
            place in a list, from 0: `data.train.0.path=./pairs`.

    Raises:
        InvalidInput: the file cannot be read, or something in it cannot be used; every problem has a line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    tree = _loaded(text, str(file))
    if not isinstance(tree, dict):
        raise InvalidInput(f"{file} must have sections with keys in them, such as model: and data:")
    return config_of(tree, overrides, str(file))


def config_of(tree: Mapping[str, Any], overrides: Sequence[str] = (), name: str = "the configuration") -> TrainConfig:
    """A tree as YAML gives it to a configuration; `name` is what messages call it. Raises as `read_config`."""
    whole: object = tree
    for override in overrides:
        whole = _overridden(whole, override)
    try:
        return TrainConfig.model_validate_json(json.dumps(whole))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise InvalidInput(f"{name} has a value that is no text, number, list or mapping: {error}") from error
        problems = _problems(error.errors())
    said = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise InvalidInput(f"{name} has {said}:" + "".join(f"\n  {problem}" for problem in problems))


def dump_config(config: TrainConfig) -> str:
    """The whole tree as YAML, defaults included; `read_config` makes the same of it."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return text


def _loaded(text: str, where: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is no YAML: {' '.join(str(error).split())}") from error


def _overridden(tree: object, override: str) -> object:
    path, found, text = override.partition("=")
    if not found or not all(path.split(".")):
        raise InvalidInput(f"-o {override}: write KEY=VALUE with the key's section, e.g. -o optimizer.lr=4e-4")
    return _put(tree, path.split("."), _loaded(text, f"-o {override}: the value"))


def _put(tree: object, path: Sequence[str], value: object) -> object:
    """A copy of the tree with the value in its place; what stands in the way of a section gives way to it."""
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
        return [_put(item, rest, value) if place == int(step) else item for place, item in enumerate(tree)]
    section = tree if isinstance(tree, Mapping) else {}
    return {**section, step: _put(section.get(step), rest, value)}


def _problems(errors: Sequence[ErrorDetails]) -> list[str]:
    """One line for each place; of a value that may be of several kinds, all of them are named."""
    said: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        place = tuple(_place(error["loc"]))
        value, allowed = _value(error), _allowed(error, place)
        said.setdefault((".".join(place) or "the file", value), []).append(allowed)
    return [
        f"{place}: {value}{' or '.join(dict.fromkeys(allowed))}"
        for (place, value), allowed in said.items()
        if not any(deeper.startswith(f"{place}.") for deeper, _ in said)  # another kind that the value is not, either
    ]


def _value(error: ErrorDetails) -> str:
    """What stands there, where it is short enough to be told."""
    if error["type"] in {"missing", "extra_forbidden"} or isinstance(error["input"], Mapping):
        return ""
    return f"is {json.dumps(error['input'], ensure_ascii=False, default=str)}: "


def _allowed(error: ErrorDetails, place: Sequence[str]) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return _unknown(place)
    message = error["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _unknown(place: Sequence[str]) -> str:
    known = list(_keys(TrainConfig, place[:-1]))
    near = difflib.get_close_matches(place[-1], known, n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return f"is no key{hint} (there are {', '.join(known)})"


def _place(loc: Sequence[int | str]) -> Iterator[str]:
    """Where a problem is, without the names of kinds that a union adds."""
    kinds: Any = TrainConfig
    for step in loc:
        below = _below(kinds, step)
        if below is not None:
            yield str(step)
            kinds = below


def _below(kind: Any, step: int | str) -> Any:  # noqa: ANN401
    """What stands below a key or number in a value of this kind; None where a value has no such thing."""
    kinds = list(_kinds(kind))
    if any(isinstance(each, type) and each.__name__ == step for each in kinds):
        return None
    for each in kinds:
        origin = get_origin(each)
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each.model_fields[str(step)].annotation if str(step) in each.model_fields else Any
        if origin is dict and isinstance(step, str) and "[" not in step:
            return get_args(each)[1]
        if origin is tuple and isinstance(step, int):
            return get_args(each)[0]
    return None


def _kinds(kind: Any) -> Iterator[Any]:  # noqa: ANN401
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _kinds(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for each in get_args(kind):
            yield from _kinds(each)
    else:
        yield kind


def _keys(kind: Any, place: Sequence[str]) -> Iterator[str]:  # noqa: ANN401
    for step in place:
        kind = _below(kind, int(step) if step.isdigit() else step)
    for each in _kinds(kind):
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield from each.model_fields
