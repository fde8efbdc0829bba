"""Reads a `TrainConfig` from YAML and `-o key.path=value`, and writes it as YAML. Reports all errors together."""

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


def read_config(file: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        file: YAML.
        overrides: assignments such as `optimizer.lr=4e-4`, with values in YAML, which override the file. A number is an
            index of a list, from 0: `data.train.0.path=./pairs`.

    Raises:
        InvalidInput: the file cannot be read, or the configuration is invalid: the message has a line for each
            problem, and `value` the keys.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}", value=file) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8", value=file) from error
    tree = _loaded(text, str(file), file)
    if not isinstance(tree, dict):
        raise InvalidInput(f"{file} has no sections: it needs model:, data: and run:", value=file)
    return config_of(tree, overrides, str(file))


def config_of(tree: Mapping[str, Any], overrides: Sequence[str] = (), name: str = "the configuration") -> TrainConfig:
    """The configuration of a tree as parsed from YAML, which messages call `name`. Raises as `read_config`."""
    whole: object = tree
    for override in overrides:
        whole = _overridden(whole, override)
    try:
        return TrainConfig.model_validate_json(json.dumps(whole))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise InvalidInput(f"{name} has a value that is not a string, number, list or mapping: {error}") from error
        problems = _problems(error.errors())
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  {place}: {problem}" for place, problem in problems)
    raise InvalidInput(f"{name} has {count}:{lines}", value=tuple(place for place, _ in problems), where=name)


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML, including defaults, from which `read_config` reads the same."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return text


def _loaded(text: str, name: str, value: object) -> object:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not valid YAML: {' '.join(str(error).split())}", value=value) from error


def _overridden(tree: object, override: str) -> object:
    path, found, text = override.partition("=")
    if not found or not all(path.split(".")):
        raise InvalidInput(f"-o {override}: write KEY=VALUE, such as -o optimizer.lr=4e-4", value=override)
    return _put(tree, path.split("."), _loaded(text, f"-o {override}: the value", override))


def _put(tree: object, path: Sequence[str], value: object) -> object:
    """A copy of the tree with the value at the path; a value in the place of a section is replaced."""
    if not path:
        return value
    step, *rest = path
    if isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
        return [_put(item, rest, value) if place == int(step) else item for place, item in enumerate(tree)]
    section = tree if isinstance(tree, Mapping) else {}
    return {**section, step: _put(section.get(step), rest, value)}


def _problems(errors: Sequence[ErrorDetails]) -> list[tuple[str, str]]:
    """Each place with what is wrong there; of a union, all types are named."""
    found: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        place = tuple(_place(error["loc"]))
        value, allowed = _value(error), _allowed(error, place)
        found.setdefault((".".join(place) or "the file", value), []).append(allowed)
    return [
        (place, f"{value}{' or '.join(dict.fromkeys(allowed))}")
        for (place, value), allowed in found.items()
        if not any(deeper.startswith(f"{place}.") for deeper, _ in found)  # another type of a union
    ]


def _value(error: ErrorDetails) -> str:
    """The value that was found, unless it is missing or a section."""
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
    return f"unknown key{hint} (valid keys: {', '.join(known)})"


def _place(loc: Sequence[int | str]) -> Iterator[str]:
    """The place of a problem, without the names of types that a union adds."""
    kinds: Any = TrainConfig
    for step in loc:
        below = _below(kinds, step)
        if below is not None:
            yield str(step)
            kinds = below


def _below(kind: Any, step: int | str) -> Any:  # noqa: ANN401
    """The type below a key or index in a value of this type; None if there is none."""
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
