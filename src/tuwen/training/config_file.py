"""Reads a `TrainConfig` from YAML and `-o key.path=value`, and writes it as YAML. Reports all errors together."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tuwen.configuration import overridden, read_yaml
from tuwen.errors import InvalidInput
from tuwen.training.config import TrainConfig


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
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise InvalidInput(f"{file} has no sections: it needs model:, data: and run:", value=file)
    return config_of(tree, overrides, str(file))


def config_of(tree: Mapping[str, Any], overrides: Sequence[str] = (), name: str = "the configuration") -> TrainConfig:
    """The configuration of a tree as parsed from YAML, which messages call `name`. Raises as `read_config`."""
    whole: object = tree
    for override in overrides:
        whole = overridden(whole, override, "optimizer.lr=4e-4")
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
