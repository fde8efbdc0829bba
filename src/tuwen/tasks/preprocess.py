"""Whether a configuration's preprocessing is the model's own, which it brings; another would spoil its vectors.

Knows PaddleClas' operations on pictures and an image spec. Changes nothing: it tells what differs.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isclose
from typing import TypeAlias

from tuwen.bundle.manifest import ImageSpec

_Check: TypeAlias = Callable[[object, ImageSpec], bool]


def differences(transforms: Mapping[str, Mapping[str, object]], spec: ImageSpec) -> Iterator[str]:
    """One line for each value of `PreProcess.transform_ops` that the model does otherwise."""
    for operation, parameters in transforms.items():
        place = f"PreProcess.transform_ops: {operation}"
        if operation not in _OPERATIONS:
            yield f"{place} cannot be done: leave PreProcess out, the model brings its own"
            continue
        for name, value in parameters.items():
            check = _OPERATIONS[operation].get(name)
            if check is None or not check(value, spec):
                own = _own(name, spec)
                yield f"{place}.{name}: {value!r} is not the model's{own}: leave PreProcess out, it brings its own"


def _own(name: str, spec: ImageSpec) -> str:
    values = {"size": spec.size, "resize_short": spec.edge or spec.size[0], "mean": spec.mean, "std": spec.std}
    values |= {"interpolation": spec.interpolation}
    return f" ({values[name]})" if name in values else ""


def _is_size(value: object, spec: ImageSpec) -> bool:
    return value in (spec.size[0], list(spec.size)) and (value != spec.size[0] or spec.size[0] == spec.size[1])


def _is_edge(value: object, spec: ImageSpec) -> bool:
    return value == (spec.edge or spec.size[0])


def _is_scale(value: object, _: ImageSpec) -> bool:
    """One 255th, as a number or as people write it; the numbers that it is made of are not computed."""
    number = value if isinstance(value, int | float) else None
    return str(value).replace(" ", "") in ("1.0/255.0", "1/255", "1/255.0", "1.0/255", "1./255.") or (
        number is not None and isclose(number, 1 / 255, rel_tol=1e-4)
    )


def _are(values: object, own: tuple[float, float, float]) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 3
        and all(map(lambda a, b: isclose(a, b, abs_tol=1e-4), values, own))
    )


def _any(_: object, __: ImageSpec) -> bool:
    return True


_OPERATIONS: Mapping[str, Mapping[str, _Check]] = {
    "ResizeImage": {
        "size": _is_size,
        "resize_short": _is_edge,
        "interpolation": lambda value, spec: value == spec.interpolation,
        "backend": _any,
    },
    "CropImage": {"size": _is_size},
    "NormalizeImage": {
        "scale": _is_scale,
        "mean": lambda value, spec: _are(value, spec.mean),
        "std": lambda value, spec: _are(value, spec.std),
        "order": _any,
        "channel_num": lambda value, _: value == 3,
        "output_fp16": lambda value, _: value is False,
    },
    "ToCHWImage": {},
}
"""operation -> parameter -> whether the model does the same"""
