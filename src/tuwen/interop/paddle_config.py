"""The configuration of PaddleClas' CLIP pipeline (`inference_clip.yaml`), checked as a whole before anything runs."""

import difflib
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tuwen.bundle.foreign import is_foreign
from tuwen.bundle.manifest import MANIFEST, ImageSpec
from tuwen.errors import InvalidInput
from tuwen.index.location import Place, place_of

BUILDS = {"image_index_build": "image", "text_index_build": "text"}
"""mode -> type of the rows that it adds to the index"""
SEARCHES = {
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "image-to-image": ("image", "image"),
    "text-to-text": ("text", "text"),
}
"""mode -> type of the queries, and of the hits"""
IDLE = (
    *("Global.batch_size", "Global.enable_mkldnn", "Global.enable_benchmark", "Global.ir_optim", "Global.gpu_mem"),
    *("Global.enable_profile", "IndexProcess.batch_size"),
)
"""keys without an effect: batches and memory are managed, and CPUs always compute with oneDNN"""
_ONE_MODEL = "one model encodes images and texts: write Global.model, or give --model"
INSTEAD = {
    "Global.inference_model_dir": _ONE_MODEL,
    "Global.rec_inference_model_dir": _ONE_MODEL,
    "Global.pretrained_model": "a Paddle checkpoint cannot be run: write Global.model, or give --model",
    "IndexProcess.index_dir": "write image_index_dir and text_index_dir",
    "IndexProcess.hamming_radius": "binary vectors are not supported: leave it out, and write score_thres",
}
"""keys of the pipeline's other configurations, and what to write instead"""

Mode = Literal[
    "image_index_build", "text_index_build", "text-to-image", "image-to-text", "image-to-image", "text-to-text"
]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Global(_Section):
    """The mode, its inputs, and the model."""

    mode: Mode | None = None
    infer_imgs: Text | None = None
    texts: Text | None = None
    model: Text | None = None
    inference_image_encoder_dir: Text | None = None
    inference_text_encoder_dir: Text | None = None
    embedding_size: Count | None = None
    use_gpu: bool | None = None
    use_tensorrt: bool = False
    use_fp16: bool = False
    cpu_num_threads: Count | None = None


class PreProcess(_Section):
    """The image preprocessing, which must be the model's own."""

    transform_ops: list[dict[str, dict[str, Any] | None] | str] = []


class IndexProcess(_Section):
    """The index, and the options of a search."""

    index_method: Literal["HNSW32", "IVF", "Flat"] | None = None
    image_index_dir: Text | None = None
    text_index_dir: Text | None = None
    index_operation: Literal["new", "append", "remove"] = "new"
    image_root: Text = "."
    data_file: Text | None = None
    delimiter: Text = "\t"
    dist_type: Literal["IP", "L2"] | None = None
    embedding_size: Count | None = None
    return_k: Count = 1
    score_thres: Annotated[float, Field(ge=-1, le=1)] = 0.5


_SECTIONS: Mapping[str, type[_Section]] = {"Global": Global, "PreProcess": PreProcess, "IndexProcess": IndexProcess}
USED = tuple(f"{name}.{key}" for name, section in _SECTIONS.items() for key in section.model_fields)
"""every key that has an effect"""


class InvalidConfig(InvalidInput):
    """A configuration that cannot be run. `.problems` has one line for each invalid key."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class PaddleConfig(BaseModel):
    """A configuration, with paths as written.

    Attributes:
        general, preprocess, process: its sections Global, PreProcess and IndexProcess.
        model: a model's name or folder; None: the index's own, or the default for a new index.
        idle: its keys that have no effect.
    """

    model_config = ConfigDict(frozen=True)

    general: Global
    preprocess: PreProcess
    process: IndexProcess
    model: str | None
    idle: tuple[str, ...]

    @property
    def mode(self) -> str:
        """A key of `BUILDS` or `SEARCHES`."""
        return str(self.general.mode)

    @property
    def builds(self) -> str | None:
        """`image` or `text`, in a mode that builds."""
        return BUILDS.get(self.mode)

    @property
    def indexed(self) -> str:
        """`image` or `text`: what the index has rows of."""
        return self.builds or SEARCHES[self.mode][1]

    @property
    def index(self) -> Place:
        """The index that the mode works on."""
        return place_of(str(getattr(self.process, f"{self.indexed}_index_dir")))

    @property
    def root(self) -> Path:
        """The folder that paths in `data_file`, and the keys of a new index, are relative to."""
        return Path(self.process.image_root)

    @property
    def design(self) -> dict[str, str]:
        """Kind and metric of the index, if given."""
        named = {"kind": self.process.index_method, "metric": self.process.dist_type}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def device(self) -> str | None:
        """The device, if `use_gpu` is given."""
        if self.general.use_gpu is None:
            return None
        return ("tensorrt" if self.general.use_tensorrt else "cuda") if self.general.use_gpu else "cpu"


def read_config(file: Path, overrides: Sequence[str] = (), model: str | None = None) -> PaddleConfig:
    """Read a configuration.

    Args:
        file: YAML.
        overrides: values that override the file, e.g. `Global.mode=text-to-image`.
        model: a model's name or folder, which overrides both.

    Raises:
        InvalidInput: the file or an override cannot be read.
        InvalidConfig: a key is unknown, its value is invalid, or a file that it names is missing.
    """
    values = {key: value for key, value in {**_flat(file), **_overridden(overrides)}.items() if value is not None}
    idle = tuple(key for key in IDLE if values.pop(key, None) is not None)
    sections, problems = _validated(values)
    general, process = sections["Global"], sections["IndexProcess"]
    problems += _missing(general, process)
    if general.use_tensorrt and not general.use_gpu:
        problems.append("Global.use_tensorrt: TensorRT needs a GPU; also set use_gpu: True")
    if model is None:
        model = _model(general, problems)
    if problems:
        raise InvalidConfig(problems)
    delimiter = process.delimiter.replace("\\t", "\t")
    return PaddleConfig(
        general=general,
        preprocess=sections["PreProcess"],
        process=process.model_copy(update={"delimiter": delimiter}),
        model=model,
        idle=idle,
    )


def _validated(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The sections without invalid keys, and one line for each of those."""
    problems = [_unknown(key) for key in values if key.partition(".")[0] not in _SECTIONS]
    sections: dict[str, Any] = {}
    for name, section in _SECTIONS.items():
        given = {key.partition(".")[2]: value for key, value in values.items() if key.partition(".")[0] == name}
        try:
            sections[name] = section.model_validate(given)
        except ValidationError as error:
            wrong = {str(item["loc"][0]): item for item in error.errors()}
            problems += [_described(name, item) for item in wrong.values()]
            sections[name] = section.model_validate({key: given[key] for key in given.keys() - wrong.keys()})
    if "Global.mode" not in values:
        problems.append(f"Global.mode is missing; set one of: {', '.join(get_args(Mode))}")
    return sections, problems


def _flat(file: Path) -> dict[str, Any]:
    try:
        sections = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}", where=file) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"{file} is not YAML: {' '.join(str(error).split())}", where=file) from error
    if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
        raise InvalidInput(f"{file} must have sections with keys, such as Global: and IndexProcess:", where=file)
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def _overridden(overrides: Sequence[str]) -> dict[str, Any]:
    values = {}
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or "." not in key:
            raise InvalidInput(
                f"-o {override}: write SECTION.KEY=VALUE, for example Global.mode=text-to-image", value=override
            )
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(f"-o {override}: the value is not YAML: {reason}", value=override) from error
    return values


def _described(section: str, error: ErrorDetails) -> str:
    key = f"{section}.{error['loc'][0]}"
    if error["type"] == "extra_forbidden":
        return _unknown(key)
    return f"{key}: {error['input']!r} cannot be used: {error['msg'][0].lower()}{error['msg'][1:]}"


def _unknown(key: str) -> str:
    if key in INSTEAD:
        return f"{key} cannot be used: {INSTEAD[key]}"
    near = difflib.get_close_matches(key, (*USED, *IDLE), n=1)
    return f"{key} is unknown: " + (f"did you mean {near[0]}?" if near else "leave it out")


def _missing(general: Global, process: IndexProcess) -> list[str]:
    """The inputs and keys that the mode needs but that are missing."""
    if general.mode is None:
        return []
    mode, problems = str(general.mode), []
    reads = BUILDS.get(mode) or SEARCHES[mode][0]
    image = None if general.infer_imgs is None else Path(general.infer_imgs)
    if mode in BUILDS and process.data_file is not None:
        if not Path(process.data_file).is_file():
            problems.append(f"IndexProcess.data_file: no file {process.data_file}")
    elif reads == "text" and not (general.texts and Path(general.texts).is_file()):
        problems.append(f"Global.texts: no file {general.texts or 'is named'}")
    elif reads == "image" and (image is None or not (image.exists() or _removes(mode, process))):
        problems.append(f"Global.infer_imgs: no image or folder {image or 'is named'}")
    name = f"{BUILDS.get(mode) or SEARCHES[mode][1]}_index_dir"
    try:
        if getattr(process, name) is None:
            problems.append(f"IndexProcess.{name} is missing: name the folder of that index")
        else:
            place_of(getattr(process, name))
    except InvalidInput as error:
        problems.append(f"IndexProcess.{name}: {error}")
    return problems


def _removes(mode: str, process: IndexProcess) -> bool:
    return mode in BUILDS and process.index_operation == "remove"


def _model(general: Global, problems: list[str]) -> str | None:
    """`Global.model`, or the folder that both encoders' keys name, if it is a bundle."""
    folders = {tower: getattr(general, f"inference_{tower}_encoder_dir") for tower in ("image", "text")}
    named = {folder for folder in folders.values() if folder is not None}
    if general.model is not None or not named:
        return general.model
    folder = Path(next(iter(named)))
    if len(named) == 1 and None not in folders.values() and ((folder / MANIFEST).is_file() or is_foreign(folder)):
        return str(folder)
    problems += [
        f"Global.inference_{tower}_encoder_dir: {name} is not a bundle, and Paddle inference models cannot be run: "
        "give --model BUNDLE, or write Global.model (tuwen export makes bundles)"
        for tower, name in folders.items()
        if name is not None
    ]
    return None


def check_model(config: PaddleConfig, model: str, dim: int, spec: ImageSpec) -> None:
    """Check that a configuration agrees with the model.

    Raises:
        InvalidConfig: it has another dimension than `dim`, or another image preprocessing than `spec`.
    """
    sizes = {"Global": config.general.embedding_size, "IndexProcess": config.process.embedding_size}
    problems = [
        f"{section}.embedding_size: {size} is not the model's: {model} has {dim}"
        for section, size in sizes.items()
        if size not in (None, dim)
    ]
    problems += differences(config.preprocess.transform_ops, spec)
    if problems:
        raise InvalidConfig(problems)


def differences(transforms: Sequence[Mapping[str, Any] | str], spec: ImageSpec) -> list[str]:
    """One line for each value of `PreProcess.transform_ops` that differs from the model's preprocessing."""
    size: tuple[object, ...] = (list(spec.size), *({*spec.size} if len({*spec.size}) == 1 else ()))
    known: dict[str, dict[str, tuple[object, ...]]] = {
        "ResizeImage": {
            "size": size,
            "resize_short": (spec.edge or spec.size[0],),
            "interpolation": (spec.interpolation,),
            "backend": (),
        },
        "CropImage": {"size": size},
        "NormalizeImage": {
            "scale": (1 / 255, "1.0/255.0", "1/255", "1/255.0", "1.0/255", "1./255."),
            "mean": (spec.mean,),
            "std": (spec.std,),
            "order": (),
            "channel_num": (3,),
            "output_fp16": (False,),
        },
        "ToCHWImage": {},
    }
    advice, found = "leave out PreProcess; the model has its own preprocessing", []
    for entry in transforms:
        for operation, parameters in (entry if isinstance(entry, Mapping) else {entry: None}).items():
            place = f"PreProcess.transform_ops: {operation}"
            if operation not in known:
                found.append(f"{place} is not supported: {advice}")
                continue
            for name, value in (parameters or {}).items():
                allowed = known[operation].get(name)
                if allowed is None or (allowed and not any(_same(value, one) for one in allowed)):
                    own = "" if not allowed else f" ({allowed[0]})"
                    found.append(f"{place}.{name}: {value!r} is not the model's{own}: {advice}")
    return found


def _same(value: object, own: object) -> bool:
    """Equal, numbers to four digits, and texts without their spaces."""
    if isinstance(value, list) and isinstance(own, list | tuple):
        return len(value) == len(own) and all(map(_same, value, own))
    if isinstance(value, int | float) and isinstance(own, int | float):
        return isclose(value, own, rel_tol=1e-4, abs_tol=1e-4 if own > 0.01 else 0)
    return (value.replace(" ", "") if isinstance(value, str) else value) == own
