"""The configuration of PaddleClas' CLIP pipeline (`inference_clip.yaml`), checked as a whole before anything runs."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tuwen.bundle.foreign import is_foreign
from tuwen.bundle.manifest import MANIFEST, ImageSpec
from tuwen.configuration import overridden, read_yaml
from tuwen.errors import InvalidInput
from tuwen.index.location import Location, parse_location

MODES = {
    "image_index_build": ("image", "image"),
    "text_index_build": ("text", "text"),
    "text-to-image": ("text", "image"),
    "image-to-text": ("image", "text"),
    "image-to-image": ("image", "image"),
    "text-to-text": ("text", "text"),
}
"""mode -> type of what it reads, and of the rows of its index"""
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
Word = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]


class InvalidConfig(InvalidInput):
    """A configuration that cannot be run. `.problems` has one line for each invalid key."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Global(_Section):
    """The mode, its inputs, and the model."""

    mode: Mode | None = None
    infer_imgs: Word | None = None
    texts: Word | None = None
    model: Word | None = None
    inference_image_encoder_dir: Word | None = None
    inference_text_encoder_dir: Word | None = None
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
    image_index_dir: Word | None = None
    text_index_dir: Word | None = None
    index_operation: Literal["new", "append", "remove"] = "new"
    image_root: Word = "."
    data_file: Word | None = None
    delimiter: Word = "\t"
    dist_type: Literal["IP", "L2"] | None = None
    embedding_size: Count | None = None
    return_k: Count = 1
    score_thres: Annotated[float, Field(ge=-1, le=1)] = 0.5


class PaddleConfig(_Section):
    """A configuration, with paths as written."""

    general: Global = Field(Global(), alias="Global")
    preprocess: PreProcess = Field(PreProcess(), alias="PreProcess")
    process: IndexProcess = Field(IndexProcess(), alias="IndexProcess")
    idle: tuple[str, ...] = ()
    """its keys that have no effect"""

    @property
    def mode(self) -> str:
        """A key of `MODES`."""
        return str(self.general.mode)

    @property
    def builds(self) -> bool:
        """Whether the mode adds or removes rows."""
        return self.mode.endswith("_build")

    @property
    def reads(self) -> str:
        """`image` or `text`: the type of the inputs or the queries."""
        return MODES[self.mode][0]

    @property
    def indexed(self) -> str:
        """`image` or `text`: the type of the rows of the index."""
        return MODES[self.mode][1]

    @property
    def index(self) -> Location:
        """The index that the mode works on."""
        return parse_location(str(getattr(self.process, f"{self.indexed}_index_dir")))

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
        given = self.general
        return (
            None
            if given.use_gpu is None
            else "cpu"
            if not given.use_gpu
            else "tensorrt"
            if given.use_tensorrt
            else "cuda"
        )

    @property
    def model(self) -> str | None:
        """`Global.model`, else the folder that both encoders' keys name; None: the index's own, or the default."""
        return self.general.model or self.general.inference_image_encoder_dir or self.general.inference_text_encoder_dir


USED = tuple(
    f"{field.alias}.{key}"
    for field in PaddleConfig.model_fields.values()
    for key in getattr(field.annotation, "model_fields", ())
)
"""every key that has an effect"""


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
    sections = _sections(file, overrides)
    if model is not None:
        sections.setdefault("Global", {})["model"] = model
    keys = [name.split(".") for name in IDLE]
    idle = tuple(f"{name}.{key}" for name, key in keys if sections.get(name, {}).pop(key, None) is not None)
    given = "mode" in sections.get("Global", {})
    problems = {}
    try:
        config = PaddleConfig.model_validate(sections)
    except ValidationError as error:
        for item in error.errors():
            name, *rest = map(str, item["loc"][:2])
            problems[".".join((name, *rest))] = _described(item)
            if rest:
                sections[name].pop(rest[0], None)
            else:
                sections.pop(name, None)
        config = PaddleConfig.model_validate(sections)
    if found := [*problems.values(), *_missing(config, given=given)]:
        raise InvalidConfig(found)
    delimiter = config.process.delimiter.replace("\\t", "\t")
    return config.model_copy(
        update={"process": config.process.model_copy(update={"delimiter": delimiter}), "idle": idle}
    )


def _sections(file: Path, overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The sections of a file, without keys that say nothing."""
    tree: Any = read_yaml(file)
    if not isinstance(tree, dict) or not all(isinstance(keys, dict) for keys in tree.values()):
        raise InvalidInput(f"{file} must have sections with keys, such as Global: and IndexProcess:", where=file)
    for override in overrides:
        tree = overridden(tree, override, "Global.mode=text-to-image")
        if "." not in override.partition("=")[0]:
            hint = "write SECTION.KEY=VALUE"
            raise InvalidInput(f"-o {override}: {hint}", value=override, hint=hint)
    return {name: {key: it for key, it in keys.items() if it is not None} for name, keys in tree.items()}


def _described(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"][:2]))
    if error["type"] != "extra_forbidden":
        return f"{key}: {error['input']!r} cannot be used: {error['msg'][0].lower()}{error['msg'][1:]}"
    if key in INSTEAD:
        return f"{key} cannot be used: {INSTEAD[key]}"
    near = difflib.get_close_matches(key, (*USED, *IDLE), n=1)
    return f"{key} is unknown: " + (f"did you mean {near[0]}?" if near else "leave it out")


def _missing(config: PaddleConfig, *, given: bool) -> Iterator[str]:
    """What the mode needs and is missing, and keys that contradict each other. `given`: whether there is a mode."""
    general, process = config.general, config.process
    if general.use_tensorrt and not general.use_gpu:
        yield "Global.use_tensorrt: TensorRT needs a GPU; also set use_gpu: True"
    yield from _no_bundle(general)
    if general.mode is None:
        if not given:
            yield f"Global.mode is missing; set one of: {', '.join(get_args(Mode))}"
        return
    yield from _no_input(config)
    name = f"{config.indexed}_index_dir"
    try:
        if getattr(process, name) is None:
            yield f"IndexProcess.{name} is missing: name the folder of that index"
        else:
            parse_location(getattr(process, name))
    except InvalidInput as error:
        yield f"IndexProcess.{name}: {error}"


def _no_input(config: PaddleConfig) -> Iterator[str]:
    """The key whose file or folder does not exist."""
    general, process = config.general, config.process
    removes = config.builds and process.index_operation == "remove"
    if config.builds and process.data_file is not None:
        if not Path(process.data_file).is_file():
            yield f"IndexProcess.data_file: no file {process.data_file}"
    elif config.reads == "text" and not (general.texts and Path(general.texts).is_file()):
        yield f"Global.texts: no file {general.texts or 'is named'}"
    elif config.reads == "image" and not (general.infer_imgs and (removes or Path(general.infer_imgs).exists())):
        yield f"Global.infer_imgs: no image or folder {general.infer_imgs or 'is named'}"


def _no_bundle(general: Global) -> Iterator[str]:
    """The keys of the encoders' folders, where they stand for the model and do not both name one bundle."""
    folders = {tower: getattr(general, f"inference_{tower}_encoder_dir") for tower in ("image", "text")}
    named = {tower: folder for tower, folder in folders.items() if folder is not None}
    if general.model is not None or not named:
        return
    folder = Path(next(iter(named.values())))
    if len({*folders.values()}) == 1 and ((folder / MANIFEST).is_file() or is_foreign(folder)):
        return
    for tower, name in named.items():
        yield (
            f"Global.inference_{tower}_encoder_dir: {name} is not a bundle, and Paddle inference models cannot be run: "
            "give --model BUNDLE, or write Global.model (tuwen export makes bundles)"
        )


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
    known: dict[str, dict[str, tuple[object, ...]]] = {  # operation -> parameter -> what it may be; (): anything
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
    steps = [step for entry in transforms for step in (entry if isinstance(entry, Mapping) else {entry: None}).items()]
    for operation, parameters in steps:
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
