"""The configuration of another tool's CLIP pipeline (PaddleClas, `inference_clip.yaml`), read key by key: a `Plan`.

All problems are told at once, each with what to write instead. Knows how values go together; what each may be is in
`pipeline_keys.py`. Does not know models, indexes nor what a mode does: see `modes.py`.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any, TypeAlias

from tuwen.bundle import manifest as layout
from tuwen.bundle.foreign import is_foreign
from tuwen.bundle.manifest import ImageSpec
from tuwen.errors import InvalidInput
from tuwen.index.location import Place, place_of

# ---- The keys of another tool's CLIP pipeline, and what each may be.

BUILDS = {"image_index_build": "image", "text_index_build": "text"}
"""mode -> what goes into the index"""
SEARCHES = {
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "image-to-image": ("image", "image"),
    "text-to-text": ("text", "text"),
}
"""mode -> what is asked with, and what is found"""
OPERATIONS = ("new", "append", "remove")
Check: TypeAlias = Callable[[Any], bool]
_TEXT: tuple[Check, str] = (lambda value: isinstance(value, str) and value != "", "a text")
_FLAG: tuple[Check, str] = (lambda value: isinstance(value, bool), "True or False")
_COUNT: tuple[Check, str] = (lambda value: type(value) is int and value > 0, "a whole number above 0")
_COSINE: tuple[Check, str] = (lambda value: type(value) in (int, float) and -1 <= value <= 1, "a cosine, -1 to 1")


def _one_of(*values: str) -> tuple[Check, str]:
    return lambda value: value in values, f"one of {', '.join(values)}"


USED: Mapping[str, tuple[Check, str]] = {
    "Global.mode": _one_of(*BUILDS, *SEARCHES),
    "Global.infer_imgs": _TEXT,
    "Global.texts": _TEXT,
    "Global.model": _TEXT,
    "Global.inference_image_encoder_dir": _TEXT,
    "Global.inference_text_encoder_dir": _TEXT,
    "Global.embedding_size": _COUNT,
    "Global.use_gpu": _FLAG,
    "Global.use_tensorrt": _FLAG,
    "Global.use_fp16": _FLAG,
    "Global.cpu_num_threads": _COUNT,
    "PreProcess.transform_ops": (lambda value: isinstance(value, list), "a list of operations"),
    "IndexProcess.index_method": _one_of("HNSW32", "IVF", "Flat"),
    "IndexProcess.image_index_dir": _TEXT,
    "IndexProcess.text_index_dir": _TEXT,
    "IndexProcess.index_operation": _one_of(*OPERATIONS),
    "IndexProcess.image_root": _TEXT,
    "IndexProcess.data_file": _TEXT,
    "IndexProcess.delimiter": _TEXT,
    "IndexProcess.dist_type": _one_of("IP", "L2"),
    "IndexProcess.embedding_size": _COUNT,
    "IndexProcess.return_k": _COUNT,
    "IndexProcess.score_thres": _COSINE,
}
"""what a key may be, and that in words"""
IDLE = (
    "Global.batch_size",
    "Global.enable_mkldnn",
    "Global.enable_benchmark",
    "Global.ir_optim",
    "Global.gpu_mem",
    "Global.enable_profile",
    "IndexProcess.batch_size",
)
"""nothing that is found depends on these: batches and memory are managed, CPUs always compute with oneDNN"""
INSTEAD = {
    "Global.inference_model_dir": "one model encodes pictures and texts: write Global.model, or give --model",
    "Global.rec_inference_model_dir": "one model encodes pictures and texts: write Global.model, or give --model",
    "Global.pretrained_model": "a Paddle checkpoint cannot be run: write Global.model, or give --model",
    "IndexProcess.index_dir": "write image_index_dir and text_index_dir",
    "IndexProcess.hamming_radius": "binary vectors are not kept: leave it out, and write score_thres",
}
"""keys of the pipeline's other configurations"""
DEFAULTS: Mapping[str, Any] = {
    "IndexProcess.index_operation": "new",
    "IndexProcess.delimiter": "\t",
    "IndexProcess.return_k": 1,
    "IndexProcess.score_thres": 0.5,
    "IndexProcess.image_root": ".",
}


def wrong(key: str, value: object) -> Iterator[str]:
    """What is wrong with one key."""
    if key in USED:
        fits, words = USED[key]
        if not fits(value):
            yield f"{key}: {value!r} cannot be used: write {words}"
    elif key in INSTEAD:
        yield f"{key} cannot be used: {INSTEAD[key]}"
    elif key not in IDLE:
        near = difflib.get_close_matches(key, (*USED, *IDLE), n=1)
        yield f"{key} is not known: " + (f"did you mean {near[0]}?" if near else "leave it out")


# ---- The configuration of another tool's CLIP pipeline (PaddleClas

Values: TypeAlias = Mapping[str, Any]
"""dotted key -> value"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration asks for. Paths are as they were written.

    Attributes:
        mode: a key of `BUILDS` or `SEARCHES`.
        images: a picture, or a folder of pictures.
        texts: a file, one text a line.
        listing: a file of pictures and texts, one pair a line; it goes before `images` and `texts` in builds.
        delimiter: what stands between picture and text in `listing`.
        root: what the paths in `listing`, and the keys of a new index, are relative to.
        indexes: `image` and `text` -> where that index is.
        design: kind and metric of the index, where they are said.
        operation: `new`, `append` or `remove`.
        k: how many hits.
        min_score: the lowest cosine of a hit.
        model: a model's name or folder; None: the index's own, or the default.
        device, precision, threads: how to compute; None: as the settings say.
        dims: key -> the length of a vector that the configuration counts on.
        transforms: PreProcess.transform_ops: operation -> parameters.
        idle: keys that nothing depends on.
    """

    mode: str
    images: Path | None
    texts: Path | None
    listing: Path | None
    delimiter: str
    root: Path
    indexes: Mapping[str, Place]
    design: Mapping[str, str]
    operation: str
    k: int
    min_score: float
    model: str | None
    device: str | None
    precision: str | None
    threads: int | None
    dims: Mapping[str, int]
    transforms: Mapping[str, Mapping[str, object]]
    idle: Sequence[str]


def read_plan(file: Path, overrides: Sequence[str], model: str | None) -> tuple[Plan | None, list[str]]:
    """Read a configuration.

    Args:
        file: YAML.
        overrides: `Global.mode=text-to-image` and the like; they win over the file.
        model: what `--model` says; it wins over both.

    Returns:
        The plan, None where there are problems; and the problems, one line each.

    Raises:
        InvalidInput: the file cannot be read, or is no YAML of sections.
    """
    reader = _Reader({**_flat(_load(file), file), **_overridden(overrides)})
    plan = reader.plan(model)
    return (None if reader.problems else plan), reader.problems


def _load(file: Path) -> object:
    import yaml

    try:
        return yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"{file} is no YAML: {' '.join(str(error).split())}") from error


def _flat(sections: object, file: Path) -> dict[str, Any]:
    if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
        raise InvalidInput(f"{file} must have sections with keys in them, such as Global: and IndexProcess:")
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def _overridden(overrides: Sequence[str]) -> dict[str, Any]:
    import yaml

    values = {}
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or "." not in key:
            raise InvalidInput(
                f"-o {override}: write KEY=VALUE with the key's section, e.g. -o Global.mode=text-to-image"
            )
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidInput(f"-o {override}: the value is no YAML: {' '.join(str(error).split())}") from error
    return values


class _Reader:
    """Values to a plan; and what is wrong with them."""

    def __init__(self, values: Values) -> None:
        self._values = {key: value for key, value in values.items() if value is not None}
        self.problems = [problem for key, value in self._values.items() for problem in wrong(key, value)]

    def plan(self, model: str | None) -> Plan:
        """All of it. Of no use while there are problems."""
        mode = self._get("Global.mode")
        if mode is None:
            self.problems.append(f"Global.mode is missing: write one of {', '.join((*BUILDS, *SEARCHES))}")
        images, texts, listing = map(self._path, ("Global.infer_imgs", "Global.texts", "IndexProcess.data_file"))
        indexes = {kind: self._place(f"IndexProcess.{kind}_index_dir") for kind in ("image", "text")}
        self._check_inputs(mode, images, texts, listing)
        self._check_index(mode)
        return Plan(
            mode=str(mode),
            images=images,
            texts=texts,
            listing=listing,
            delimiter=str(self._get("IndexProcess.delimiter")).replace("\\t", "\t"),
            root=Path(str(self._get("IndexProcess.image_root"))),
            indexes={kind: path for kind, path in indexes.items() if path is not None},
            design=self._design(),
            operation=str(self._get("IndexProcess.index_operation")),
            k=self._get("IndexProcess.return_k"),
            min_score=self._get("IndexProcess.score_thres"),
            model=model or self._model(),
            device=self._device(),
            precision="fp16" if self._get("Global.use_fp16") else None,
            threads=self._get("Global.cpu_num_threads"),
            dims={key: value for key, value in self._values.items() if key.endswith(".embedding_size")},
            transforms=self._transforms(),
            idle=[key for key in IDLE if key in self._values],
        )

    def _get(self, key: str) -> Any:  # noqa: ANN401
        return self._values.get(key, DEFAULTS.get(key))

    def _path(self, key: str) -> Path | None:
        value = self._get(key)
        return None if value is None else Path(str(value))

    def _place(self, key: str) -> Place | None:
        value = self._get(key)
        try:
            return None if value is None else place_of(str(value))
        except InvalidInput as error:
            self.problems.append(f"{key}: {error}")
            return None

    def _check_inputs(self, mode: str | None, images: Path | None, texts: Path | None, listing: Path | None) -> None:
        """See that what the mode reads is there."""
        build, asked = BUILDS.get(str(mode)), SEARCHES.get(str(mode), ("", ""))[0]
        if build and listing is not None:
            self._check_file("IndexProcess.data_file", listing)
        elif "image" in (build, asked):
            removing = build and self._get("IndexProcess.index_operation") == "remove"
            if images is None or not (removing or images.exists()):
                self.problems.append(
                    f"Global.infer_imgs: {images or 'nothing'}: name a picture or a folder that is there"
                )
        elif "text" in (build, asked):
            self._check_file("Global.texts", texts)

    def _check_file(self, key: str, path: Path | None) -> None:
        if path is None or not path.is_file():
            self.problems.append(f"{key}: {path or 'nothing'}: name a file that is there")

    def _check_index(self, mode: str | None) -> None:
        kind = BUILDS.get(str(mode)) or SEARCHES.get(str(mode), ("", ""))[1]
        if kind and self._get(f"IndexProcess.{kind}_index_dir") is None:
            self.problems.append(f"IndexProcess.{kind}_index_dir is missing: name the folder of that index")

    def _design(self) -> dict[str, str]:
        said = {"kind": self._get("IndexProcess.index_method"), "metric": self._get("IndexProcess.dist_type")}
        return {name: str(value) for name, value in said.items() if value is not None}

    def _device(self) -> str | None:
        """`use_gpu` and `use_tensorrt`, where they are said."""
        gpu, tensorrt = self._get("Global.use_gpu"), self._get("Global.use_tensorrt")
        if tensorrt and not gpu:
            self.problems.append("Global.use_tensorrt: TensorRT computes on a GPU: write use_gpu: True, too")
        if gpu is None:
            return None
        return ("tensorrt" if tensorrt else "cuda") if gpu else "cpu"

    def _model(self) -> str | None:
        """`Global.model`, or what both encoders' folders name, if that is a bundle."""
        named = self._get("Global.model")
        folders = [self._get(f"Global.inference_{tower}_encoder_dir") for tower in ("image", "text")]
        if named is not None or folders == [None, None]:
            return None if named is None else str(named)
        if folders[0] == folders[1] and _is_bundle(Path(str(folders[0]))):
            return str(folders[0])
        for tower, folder in zip(("image", "text"), folders, strict=True):
            if folder is not None:
                self.problems.append(
                    f"Global.inference_{tower}_encoder_dir: {folder} is no bundle; a Paddle inference model cannot "
                    "be run: give --model BUNDLE, or write Global.model (tuwen export makes bundles)"
                )
        return None

    def _transforms(self) -> dict[str, Mapping[str, object]]:
        found: dict[str, Mapping[str, object]] = {}
        for entry in self._get("PreProcess.transform_ops") or []:
            name, parameters = next(iter(entry.items())) if isinstance(entry, dict) and entry else (str(entry), None)
            if not isinstance(parameters, dict | None):
                self.problems.append(f"PreProcess.transform_ops: {name} must have parameters with names")
                continue
            found[str(name)] = parameters or {}
        return found


def _is_bundle(folder: Path) -> bool:
    return (folder / layout.MANIFEST).is_file() or is_foreign(folder)


# ---- Whether a configuration's preprocessing is the model's own

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
