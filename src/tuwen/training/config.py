"""The configuration of a training run: one typed, frozen tree. `config_file.py` reads it from YAML.

This module never imports torch.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tuwen.bundle.manifest import Precision

Positive = Annotated[int, Field(ge=1)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeast = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """Base of all sections: strict types, frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def at_most_one(section: Section, *names: str) -> None:
    """Check that at most one of these keys is set.

    Raises:
        ValueError: several are set.
    """
    given = [name for name in names if getattr(section, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: leave one out")


class PairSource(Section, strict=False):
    """A source of image-text pairs."""

    path: Path
    """a folder (`cat.jpg` and `cat.txt`; what img2dataset wrote), a WebDataset `.tar`, `.parquet`, `.csv`, `.tsv`,
    `.jsonl`, or an annotation file (Karpathy, COCO, Flickr30k, Flickr30k-CN, COCO-CN, Chinese-CLIP)"""
    images: Path | None = None
    """the folder that the images of a table or an annotation file are in; not set: the file's own"""
    splits: tuple[str, ...] = ()
    """which splits of a dataset that has splits; not set: `train`, which includes Karpathy's `restval`"""
    key: str | None = None
    """the column of keys; not set: found by its usual names"""
    image: str | None = None
    """the column of images or their paths; not set: found by its usual names"""
    captions: Annotated[dict[str, str], Field(min_length=1)] | str | None = None
    """the column of captions, or language -> column; not set: found by its usual names"""
    language: str | None = None
    """the language of all captions, such as `zh`"""
    language_column: str | None = None
    """the column with the language of a row's captions"""
    encoding: str | None = None
    """the encoding of a table or of captions beside images, such as `gb18030`; not set: UTF-8"""

    @model_validator(mode="after")
    def _has_one_language_setting(self) -> Self:
        given = (self.language is not None, self.language_column is not None, isinstance(self.captions, dict))
        if sum(given) > 1:
            raise ValueError("language, language_column and captions by language exclude each other: keep one of them")
        return self

    def may_have(self, language: str) -> bool:
        """Whether the source may have captions in a language."""
        named = self.captions if isinstance(self.captions, dict) else {self.language: ""}
        return self.language_column is not None or language in named


def _listed(value: object) -> object:
    """A list of sources: of one path or source, `./photos` becomes `[{path: ./photos}]`."""
    several = value if isinstance(value, list | tuple) else [value]
    return [{"path": item} if isinstance(item, str | Path) else item for item in several]


Sources: TypeAlias = Annotated[tuple[PairSource, ...], BeforeValidator(_listed), Field(strict=False)]


class DataConfig(Section):
    """The pairs to train on, and their order."""

    train: Annotated[Sources, Field(min_length=1)]
    """a path, a source, or several of both"""
    languages: dict[str, Above] = Field(default_factory=dict)
    """language -> weight of drawing a caption in it, among the languages that an image has; other languages are
    not used. Empty: every caption is equally likely"""
    shuffle: bool = True
    """whether to shuffle the pairs in every epoch"""
    buffer: Positive = 10_000
    """size of the shuffle window: shards come in random order, and pairs are shuffled within windows of this size"""
    drop_last: bool = True
    """whether to drop an incomplete last batch"""
    cut: bool = True
    """whether to truncate texts to the longest of their batch, for models where that does not change the vectors"""
    max_bad: Share = 0.01
    """the largest share of pairs that may be unreadable before the run stops"""
    max_pixels: Positive = 2**28
    """images with more pixels are treated as unreadable"""
    exact: bool = False
    """whether to decode at full resolution; otherwise large images are decoded at reduced scale, much faster"""

    @model_validator(mode="after")
    def _languages_are_spoken(self) -> Self:
        silent = [name for name in self.languages if not any(source.may_have(name) for source in self.train)]
        if silent:
            raise ValueError(
                f"languages: no source has captions in {', '.join(silent)}: set language, language_column, or "
                f"captions: {{{silent[0]}: COLUMN}} of a source"
            )
        return self


class Jitter(Section):
    """Random changes of colour: factors are drawn from 1 - x to 1 + x, the hue's shift from -x to x."""

    probability: Share = 0.8
    """the probability of applying it"""
    brightness: Share = 0.0
    """x of the brightness"""
    contrast: Share = 0.0
    """x of the contrast"""
    saturation: Share = 0.0
    """x of the saturation"""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """x of the hue, in turns of the colour wheel"""


class AugmentConfig(Section):
    """Augmentation of training images, before they are preprocessed as the model's image spec says."""

    crop: Literal["random", "none"] = "random"
    """`random`: a random part, resized to the model's input; `none`: the preprocessing of inference"""
    scale: tuple[Part, Part] = (0.9, 1.0)
    """the smallest and the largest area of a random part, relative to the image"""
    ratio: tuple[Above, Above] = (0.75, 4 / 3)
    """its smallest and its largest aspect ratio, width to height"""
    flip: Share = 0.0
    """the probability of a horizontal flip; captions may say left and right, and images may have writing"""
    jitter: Jitter = Jitter()
    """changes of colour"""
    grayscale: Share = 0.0
    """the probability of conversion to grey"""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ValueError(f"{name}: the minimum {low} is above the maximum {high}")
        return self


Blocks: TypeAlias = Annotated[int, Field(ge=0)] | Literal["all"]
Beta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class ImageChanges(Section):
    """Changes of the checkpoint's image preprocessing, which the exported bundle records."""

    resize: Literal["shortest", "squash", "pad"] | None = None
    """the resize mode; for this and the others, see the bundle's image spec"""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = None
    """the resampling filter"""
    mean: tuple[float, float, float] | None = None
    """subtracted from each channel after scaling to 0..1"""
    std: tuple[Above, Above, Above] | None = None
    """each channel is divided by this"""


class ModelConfig(Section):
    """The model to train."""

    source: str = Field(min_length=1)
    """`family:name`, `family:folder`, a path, or `python:package.module:function` that returns Towers"""
    weights: Path | None = None
    """a file of weights for the architecture of `source`"""
    arch: str | None = None
    """the architecture, if it cannot be inferred from the path in `source`"""
    scratch: bool = False
    """whether to start from random weights"""
    seed: int | None = None
    """seed of the random weights; not set: run.seed"""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """changes of the architecture, by the names of its family; only with scratch"""
    image: ImageChanges = ImageChanges()
    """changes of the image preprocessing"""
    lock_image: Blocks = 0
    """how many of the vision tower's first blocks to freeze, with the embeddings before them; or `all`"""
    lock_text: Blocks = 0
    """how many of the text tower's first blocks to freeze; or `all`"""
    checkpointing: bool = False
    """whether to recompute activations in the backward pass, which saves memory"""

    @model_validator(mode="after")
    def _scratch_is_whole(self) -> Self:
        if self.scratch and self.weights is not None:
            raise ValueError("scratch and weights exclude each other")
        if self.overrides and not self.scratch:
            raise ValueError("overrides change the architecture, which trained weights do not fit: set scratch: true")
        return self


class LossConfig(Section):
    """The loss."""

    kind: Literal["infonce", "siglip"] = "infonce"
    """`infonce`: softmax both ways over the batch; `siglip`: a sigmoid for each pair"""
    dedupe: bool = True
    """whether pairs with the same caption or image are excluded from each other's negatives"""
    max_scale: Above | None = None
    """the largest scale of the cosines; not set: 100, or the model's own if that is larger"""


class ObjectiveConfig(Section):
    """A custom loss with its own batches, in place of `data` and the built-in losses.

    Of the section `loss`, `kind` and `max_scale` still determine the initial and the largest scale.
    """

    source: str = Field(pattern=r"^python:[\w.]+:\w+$")
    """`python:package.module:function` that returns a `tuwen.training.objective.Objective`"""
    settings: dict[str, Any] = Field(default_factory=dict)
    """keyword arguments of the function, after the pair, the section `run` and the process' part"""


class OptimizerConfig(Section):
    """The optimiser."""

    name: Literal["adamw"] = "adamw"
    """AdamW: weight decay is decoupled from the gradient"""
    lr: Above = 5e-4
    """the peak learning rate, after the warm-up"""
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    """decay rates of the moments"""
    eps: Above = 1e-6
    """added to the denominator"""
    weight_decay: AtLeast = 0.2
    """weight decay of matrices; one-dimensional parameters (biases, norms) have none"""
    layer_decay: Part = 1.0
    """block i of n learns at lr * layer_decay^(n - i), embeddings at layer_decay^(n + 1)"""
    clip: Above | None = None
    """the largest norm of the gradient; not set: no clipping"""
    accumulate: Positive = 1
    """batches whose gradients are accumulated for a step"""


class ScheduleConfig(Section):
    """The learning rate schedule: a linear warm-up from warmup_lr to lr, then a cosine down to eta_min."""

    name: Literal["cosine", "constant"] = "cosine"
    """`constant` stays at lr after the warm-up, until a cooldown if there is one"""
    warmup_lr: AtLeast = 0.0
    """the learning rate at the start of the warm-up"""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """length of the warm-up in steps; not set, as warmup_epochs: no warm-up"""
    warmup_epochs: AtLeast | None = None
    """length of the warm-up in epochs"""
    cooldown_steps: Positive | None = None
    """how many of the last steps decrease a constant rate linearly to eta_min; not set, as cooldown_epochs: none"""
    cooldown_epochs: Above | None = None
    """length of the cooldown in epochs"""
    eta_min: AtLeast = 0.0
    """the learning rate at the end of the cosine or the cooldown"""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        at_most_one(self, "warmup_steps", "warmup_epochs")
        at_most_one(self, "cooldown_steps", "cooldown_epochs")
        if self.name == "cosine" and (self.cooldown_steps or self.cooldown_epochs):
            raise ValueError("a cooldown needs name: constant, because the cosine already decreases")
        return self


class RunConfig(Section):
    """Length, batch size, device, and output of the run."""

    output: Path = Path("output")
    """the folder of checkpoints, logs, report and bundle"""
    epochs: Positive | None = None
    """number of passes over all pairs; this or steps"""
    steps: Positive | None = None
    """number of optimiser steps; this or epochs"""
    batch: Positive = 256
    """pairs in a batch of each process"""
    chunk: Positive | None = None
    """pairs that pass through the towers at once, with the gradient of the whole batch; not set: the whole batch"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """the precision that the towers compute in; weights stay fp32"""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`"""
    workers: Annotated[int, Field(ge=0)] = 4
    """threads of each process that read and preprocess pairs; does not change the results"""
    seed: Annotated[int, Field(ge=0)] = 0
    """seed of everything random: the order of pairs, captions, augmentation, initial weights"""
    save_steps: Positive | None = None
    """interval of checkpoints in steps"""
    save_epochs: Positive | None = None
    """interval of checkpoints in epochs; not set, as save_steps: every epoch"""
    keep_last: Positive = 3
    """how many of the last checkpoints to keep, besides the best"""
    log_every: Positive = 10
    """interval of log lines in steps"""
    fsdp: bool = False
    """whether to shard weights, gradients and optimiser states, for models that one device cannot hold"""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """decay of the moving average of the weights, which is then evaluated and exported; not set: no average"""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        at_most_one(self, "epochs", "steps")
        at_most_one(self, "save_steps", "save_epochs")
        if self.epochs is None and self.steps is None:
            raise ValueError("the length is missing: set epochs or steps")
        if self.fsdp and self.ema is not None:
            raise ValueError("fsdp and ema exclude each other: averaged weights are kept whole in every process")
        if self.chunk is not None and self.chunk > self.batch:
            raise ValueError(f"chunk, {self.chunk}, is above batch, {self.batch}")
        return self


class EvaluateConfig(Section):
    """Evaluation during training, with the encoder of inference."""

    steps: Positive | None = None
    """interval in steps"""
    epochs: Positive | None = None
    """interval in epochs; not set, as steps: every epoch, if there is something to evaluate on"""
    pairs: Sources = ()
    """held-out pairs: recall at k in both directions"""
    zeroshot: Path | None = None
    """a folder with a folder of images for each class: zero-shot accuracy"""
    templates: tuple[Annotated[str, Field(pattern="_")], ...] = ("a photo of a _",)
    """prompt templates, with `_` for the class"""
    k: tuple[Positive, ...] = (1, 5, 10)
    """each k of recall at k and of top-k accuracy"""
    batch: Positive = 64
    """images or texts encoded at once"""

    @model_validator(mode="after")
    def _one_interval(self) -> Self:
        at_most_one(self, "steps", "epochs")
        return self


class ExportConfig(Section):
    """The bundle that is exported from the best checkpoint at the end."""

    precisions: tuple[Precision, ...] = ("fp32",)
    """the precisions of its files; empty: no bundle is exported"""
    bench: bool = True
    """whether the command line also measures the bundle's speed on this machine"""
    name: str | None = None
    """the name of the model; not set: the name of the output folder"""
    licence: str = ""
    """SPDX identifier or name of the licence of the weights"""


class TrainConfig(Section):
    """A whole training run."""

    model: ModelConfig
    objective: ObjectiveConfig | None = None
    data: DataConfig | None = Field(default=None, validate_default=True)
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    run: RunConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()

    @field_validator("data")
    @classmethod
    def _has_data_or_objective(cls, data: DataConfig | None, info: ValidationInfo) -> DataConfig | None:
        if data is None and info.data.get("objective", cls) is None:
            raise ValueError("there is nothing to train on: set data: {train: ./pairs}, or an objective")
        return data

    @model_validator(mode="after")
    def _objective_replaces_data(self) -> Self:
        unused = {
            "data": self.data is not None,
            "augment": self.augment != AugmentConfig(),
            "loss.dedupe": not self.loss.dedupe,
            "run.chunk": self.run.chunk is not None,
            "run.fsdp": self.run.fsdp,
        }
        given = ", ".join(name for name, found in unused.items() if found)
        if self.objective is not None and given:
            raise ValueError(f"an objective has its own batches and loss: leave out {given}")
        return self
